"""Limits that several processes share, in Redis or Valkey.

    RedisLimiter ──scripts──> Member ──one Line──> server
        └ Openings: accounts of budgets, opened from the ledger

What is taken is taken by one script, at once or not at all; `lua/` has them and says what is kept where.
"""
