"""The closed sets that metric labels are taken from. What is in none of them is `other`.

Paths and model names come from callers: a label made of one as it stands would let anybody grow the metrics at will.
"""

from collections.abc import Callable, Iterator

from app.domain.errors import ApiError
from app.domain.records import Outcome, Record

OTHER = "other"

OUTCOMES = tuple(outcome.value for outcome in Outcome if outcome is not Outcome.IN_PROGRESS)

ROUTES = (
    "/responses",
    "/responses/compact",
    "/responses/input_tokens",
    "/responses/{id}",
    "/responses/{id}/cancel",
    "/responses/{id}/input_items",
    OTHER,
)
"""Templates of the forwarded routes, below any base path."""

MOST_MODELS = 200
LONGEST_MODEL = 256

_BASE_PATHS = ("/api/v1", "/v1")


def route_of(path: str) -> str:
    """The template of a call's path, with or without base path and query."""
    if path in ROUTES:  # nearly always
        return path
    path = path.partition("?")[0]
    for base in _BASE_PATHS:
        path = path.removeprefix(base)
    if path in ROUTES[:3]:
        return path
    match path.split("/"):
        case ["", "responses", response_id] if response_id:
            return "/responses/{id}"
        case ["", "responses", response_id, "cancel" | "input_items" as what] if response_id:
            return f"/responses/{{id}}/{what}"
    return OTHER


def reasons() -> tuple[str, ...]:
    """Every `error_type` that we answer with."""
    return tuple(dict.fromkeys([*(kind.error_type for kind in _kinds(ApiError)), OTHER]))


def _kinds(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


SERVER_FAULTS = frozenset(kind.error_type for kind in _kinds(ApiError) if kind.status >= 500)
"""Every `error_type` of ours with a status of 5xx."""


_NOT_SERVED = frozenset((Outcome.FAILED, Outcome.REJECTED, Outcome.UPSTREAM_ERROR))


class ModelLabels:
    """Names of models that upstream has served and that are known (have a price), the first `MOST_MODELS` of them.

    A name that is only asked for gets no label of its own: callers make up names without end, and many of them match a
    pattern of the price book. For use by one thread.
    """

    def __init__(self, known: Callable[[str], bool], most: int = MOST_MODELS) -> None:
        self._known = known
        self._most = most
        self._names: set[str] = set()

    def of(self, record: Record) -> str:
        """The model that served; the one asked for when upstream did not say, if it has served before."""
        name = record.model_served or record.model_requested
        if name is None:
            return OTHER
        if name in self._names:
            return name
        served = record.model_served is not None and record.outcome not in _NOT_SERVED
        if not served or len(self._names) >= self._most or len(name) > LONGEST_MODEL or not name.isprintable():
            return OTHER
        if self._known(name):
            self._names.add(name)
            return name
        return OTHER
