"""The SQLite form of the store."""
