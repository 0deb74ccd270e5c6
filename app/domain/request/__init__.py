"""Reading a request body: its members, and the models it names."""
