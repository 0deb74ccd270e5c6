"""Keys of clients, ids of requests, and the identifier that upstream gets for a client."""
