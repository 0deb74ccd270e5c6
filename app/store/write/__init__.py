"""The write path: from a settled call to a committed transaction, whatever the database."""
