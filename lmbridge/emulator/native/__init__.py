"""What answers under `/api/v1` and `/api/v0`: LM Studio's own REST interface."""
