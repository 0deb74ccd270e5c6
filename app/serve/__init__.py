"""The running server: processes, sockets, signals, the first key, and the text that a start prints."""
