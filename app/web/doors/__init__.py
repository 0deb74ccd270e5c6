"""The doors to the gateway: code through which forwarded calls enter it and answers leave it."""
