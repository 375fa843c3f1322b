"""`POST /v1/responses`: OpenAI's Responses API as LM Studio serves it."""
