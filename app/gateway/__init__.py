"""What happens to one call, and the ports through which it reaches the outside. Async, no framework."""
