"""The HTTP side: client connections, the forwarding route, account and admin routes, probes, error answers."""
