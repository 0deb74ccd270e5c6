"""Moves the calls that a killed process left in its table to the spool, as interrupted, and so to the ledger.

A settled row of such a call stays: the interrupted row is written only where there is none, or that of an open call.
"""

import logging
from pathlib import Path

from app.store.schema.rows import Rows, interrupted_row_of
from app.store.spool.open_calls import forget_all, left_in
from app.store.spool.spool import Spool

LOG = logging.getLogger(__name__)


def settle_left_calls(folder: Path, heir: Path) -> int:
    """Move the calls in the table of `folder` to the spool of `heir`, where they are durable; gives how many.

    The caller holds both folders. Raises UntrustedFile and OSError; then the calls are still in the table.
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
