"""Rules and arithmetic: no async, no I/O, no clock, standard library only."""
