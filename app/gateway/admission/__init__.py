"""What a call must pass before it goes upstream: its body, its models, its limits, its budgets."""
