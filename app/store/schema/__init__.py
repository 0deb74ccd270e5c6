"""What the database holds: tables, rows, roll-ups, revisions; and SQL as text for a driver."""
