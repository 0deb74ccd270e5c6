"""The provider: our HTTP/1.1 wire to it, its ordinary routes, its prices."""
