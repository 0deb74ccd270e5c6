"""The PostgreSQL form of the store. Nothing here is imported before a database URL asks for it.

PostgresStore ──▶ Writer ──▶ PostgresPlace ──▶ PostgresDatabase ──▶ Connection   the ledger and all changes
      │                                              └── Presence                which processes are alive
      ├─────▶ PostgresReader                                                     reports and lists
      └─────▶ Changes                                                            what others have changed
"""
