"""Limits that several processes share, in Redis or Valkey.

    RedisLimiter ──scripts──> Membership ──one RedisConnection──> server
        └ AccountLoader: accounts of budgets, opened from the ledger

One script takes everything that a call needs, or nothing. `lua/` has the scripts, and says what is stored where.
"""
