"""Responses that can be asked for again."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from app.mock.booked_call import BookedCall
from app.mock.call import MockCall
from app.mock.script import ScenarioScript

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response. `opening` is how it looked at first; `history` is what a response that continues it reads."""

    call: MockCall
    script: ScenarioScript
    entry: BookedCall
    opening: Json
    history: str

    def resource(self) -> Json:
        """As it is now: a call in the background is on its way until the books say that it is over."""
        if self.entry.finished_at is None:
            return self.opening
        if self.entry.status == "cancelled":
            return self.opening | {"status": "cancelled"}
        return self.script.body


class StoredResponses:
    """The newest `most` of them, by id."""

    def __init__(self, most: int) -> None:
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._most = most

    def add(self, response: StoredResponse) -> None:
        """Keep it, and drop the oldest if that is one too many."""
        self._responses[response.entry.id] = response
        while len(self._responses) > self._most:
            self._responses.popitem(last=False)

    def get(self, response_id: str) -> StoredResponse | None:
        """By id."""
        return self._responses.get(response_id)

    def remove(self, response_id: str) -> bool:
        """Whether it was there."""
        return self._responses.pop(response_id, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._responses.clear()
