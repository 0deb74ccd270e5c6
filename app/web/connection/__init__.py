"""One client connection: parsing, deadlines, header rules, and how an answer is written."""
