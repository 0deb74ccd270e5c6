"""Logs requests that were refused before they were calls, at a bounded rate.

Every one is counted in `weighbridge_refusals_total`, whether it is logged or not.
"""

import logging

from app.domain.errors import ApiError
from app.telemetry.line_budget import LineBudget

_LONGEST_REQUEST = 200

_log = logging.getLogger(__name__)


class RefusalLog:
    """One line a refusal: why, what was asked, from where. Each `error_type` has a budget of its own."""

    def __init__(self, budget: LineBudget) -> None:
        self._budget = budget

    def note(self, error: ApiError, address: str | None, request: str) -> None:
        """Log it, if there is room. `request` is its method and path, as far as they are known."""
        left_out = self._budget.take(error.error_type)
        if left_out is None:
            return
        fields: dict[str, object] = {
            "error_type": error.error_type,
            "http_status": error.status,
            "error_detail": error.detail,
            "address": address,
            "request": request[:_LONGEST_REQUEST],
        }
        if left_out:
            fields["left_out_before"] = left_out
        _log.log(logging.WARNING if error.status >= 500 else logging.INFO, "request refused", extra=fields)
