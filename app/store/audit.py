"""The audit log in the database."""

from collections.abc import Sequence

import sqlalchemy as sa

from app.gateway.audit import AuditEntry
from app.store.query.reader import Reader
from app.store.schema.tables import audit
from app.store.write.writer import Writer


class SqlAudit:
    """The gateway's AuditStore."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, entry: AuditEntry) -> None:
        """Store an entry. Raises StorageUnavailable."""
        new = sa.insert(audit).values({column: getattr(entry, column.name) for column in audit.c})
        await self._writer.run(new)

    async def entries(self, since: int | None, until: int | None, most: int) -> Sequence[AuditEntry]:
        """The newest entries between two moments, oldest first. Ids sort by time and narrow the search."""
        chosen = sa.select(audit)
        if since is not None:
            chosen = chosen.where(audit.c.audit_id >= _floor(since), audit.c.at >= since)
        if until is not None:
            chosen = chosen.where(audit.c.audit_id < _floor(until + 1000), audit.c.at < until)
        rows = await self._reader.rows(chosen.order_by(audit.c.audit_id.desc()).limit(most))
        return [AuditEntry(**row) for row in reversed(rows)]


def _floor(microseconds: int) -> str:
    return f"aud_{max(microseconds, 0) // 1000:012x}"
