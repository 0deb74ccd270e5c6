"""A Responses upstream for demos and tests: realistic streams and scripted faults."""
