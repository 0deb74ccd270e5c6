"""Calls that a killed process left in its table: they go to the spool, as interrupted, and from there to the ledger.

Whatever the ledger or the spool knows of such a call already stands: the row is written only where there is none, or
one of a call still open.
"""

import logging
from pathlib import Path

from app.store.schema.rows import Rows, interrupted_row_of
from app.store.spool.open_calls import forget_all, left_in
from app.store.spool.spool import Spool

LOG = logging.getLogger(__name__)


def settle_left_calls(folder: Path, heir: Path) -> int:
    """Move the calls in the table of `folder` to the spool of `heir`, where they are durable; gives how many.

    Nobody else may have the two folders. Raises UntrustedFile and OSError; then they are still in the table.
    """
    left = left_in(folder)
    if left:
        spool = Spool(heir)
        try:
            spool.append(Rows(settled=[interrupted_row_of(record) for record in left]))
        finally:
            spool.close()
        forget_all(folder)
        LOG.warning("calls that were open when their process was killed, now recorded as interrupted: %d", len(left))
    return len(left)
