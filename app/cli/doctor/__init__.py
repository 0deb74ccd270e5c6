"""`weighbridge doctor`: one function for each check. Each yields findings; none changes limits or records."""
