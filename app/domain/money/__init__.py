"""Prices, budgets, rates, windows and what a call may cost at most."""
