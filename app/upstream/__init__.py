"""The provider: our HTTP/1.1 wire, the credentials it carries, the prices it asks."""
