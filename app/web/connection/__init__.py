"""One client connection: parsing, deadlines, header rules, and writing the answer."""
