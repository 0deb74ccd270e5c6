"""`weighbridge doctor`: one function a check; each yields what it found, and none changes anything that counts."""
