"""The database: tables, migrations, the one ledger writer, clients, reports. `sqlite.open_store` opens it all.

BatchLedger ──put──▶ Writer (a thread) ──write──▶ Database (the one writing connection)
     ▲                  │        ╲                     ▲
     └── deliver ◀──────┘         Backlog              │ run
         (on the loop)            (storage trouble)    │
SqlClients ──────────────────────────────run───────────┘
SqlReports ──▶ Reader (read-only connections)
"""
