"""The database: tables, migrations, the one ledger writer, clients, reports. `opening.opened_store` opens it all.

BatchLedger ──put──▶ Writer (a thread) ──write──▶ Medium (the one writing connection)
     ▲                  │        ╲                     ▲
     └── deliver ◀──────┘         Backlog              │ run
         (on the loop)            (storage trouble)    │
SqlClients ──────────────────────────────run───────────┘
SqlReports ──▶ Reader (read-only connections)
"""
