"""The checks before a call goes upstream: its body, its models, its limits, its budgets."""
