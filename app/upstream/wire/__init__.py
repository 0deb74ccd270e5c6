"""Our HTTP/1.1 client: connections, their pool, and the calls that they carry."""
