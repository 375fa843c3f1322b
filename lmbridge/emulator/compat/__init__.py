"""What answers under `/v1`, as an OpenAI-compatible server does."""
