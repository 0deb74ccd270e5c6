"""The running server: processes, sockets, signals, first key, first words."""
