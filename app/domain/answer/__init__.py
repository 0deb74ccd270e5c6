"""Reading an answer while it passes: its framing, its terminal event, its usage."""
