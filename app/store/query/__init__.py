"""Reading: reports, records, ids, and whether the parts of a database agree."""
