"""`POST /v1/messages`: Anthropic's Messages API as LM Studio serves it."""
