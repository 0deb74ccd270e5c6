"""Clients, their keys, and the terms of their calls."""
