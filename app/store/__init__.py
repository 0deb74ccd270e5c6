"""The store: the database with the ledger, clients, keys, groups and the audit log. `opening.opened_store` opens it.

    BatchLedger ──put──▶ Writer (a thread) ──▶ WritePath ──▶ LedgerDatabase ──▶ WriteConnection (SQLite or PostgreSQL)
         ▲                  │   ▲                  └─ trouble ─▶ Spool, Backlog
         └── deliver ◀──────┘   │ run
             (on the loop)      └── SqlClients, SqlAudit
    SqlReports ──▶ Reader (read-only connections)

schema/    tables, rows, roll-ups, SQL as text      write/     from a settled call to a commit; the Backend port
spool/     rows and open calls in files             query/     reports; the Reader port
sqlite/, postgres/  the two forms of the ports      opening.py the only module that knows both
"""
