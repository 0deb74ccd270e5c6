"""Files that keep calls and rows while the database does not, and the calls that a killed process left open."""
