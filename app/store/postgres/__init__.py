"""The PostgreSQL form of the store. Nothing here is imported before a database URL asks for it.

PostgresStore ──▶ Writer ──▶ PostgresBackend ──▶ PostgresWriteConnection ──▶ PostgresConnection   ledger and changes
      │                                                    └── Presence           which processes are alive
      ├─────▶ PostgresReader                                                      reports and lists
      └─────▶ Changes                                                             what others have changed
"""
