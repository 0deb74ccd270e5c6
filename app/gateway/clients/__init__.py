"""Clients: who they are, their keys, and the terms that their calls are held to."""
