"""What answers on the WebSockets that LM Studio's own clients use."""
