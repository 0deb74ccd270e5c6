"""Input items that stand for what upstream has kept: their own bytes do not say how long they are."""

from collections.abc import Mapping

from app.domain.request.judged_names import ITEM_NAMES, check_keys

REFERENCE = "item_reference"

_USUAL = ITEM_NAMES | frozenset(
    (
        *("role", "content", "status", "phase", "name", "arguments", "call_id", "output", "input", "namespace"),
        *("summary", "encrypted_content", "action", "queries", "results", "tools"),
    )
)
"""An item with these keys alone has no look-alike: no closer look is needed."""


def check_items(call: Mapping[str, object]) -> None:
    """Raise InvalidRequest if an item may be read in two ways."""
    items = call.get("input")
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict) and (type(item) is not dict or not item.keys() <= _USUAL):
                check_keys(item, ITEM_NAMES, "input")


def has_reference(items: object) -> bool:
    """Whether an item in the value of `input` stands for one that upstream has kept."""
    return isinstance(items, list) and any(map(is_reference, items))


def is_reference(item: object) -> bool:
    """Whether it is an id that says nothing by itself."""
    return (
        isinstance(item, dict)
        and item.get("id") is not None
        and (item.get("type") == REFERENCE or item.keys() <= ITEM_NAMES)
    )
