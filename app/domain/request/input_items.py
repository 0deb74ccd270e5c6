"""Input items that refer to what upstream has stored: their bytes do not tell their length."""

from collections.abc import Mapping

from app.domain.request.judged_names import ITEM_NAMES, check_keys

REFERENCE = "item_reference"

_USUAL = ITEM_NAMES | frozenset(
    (
        *("role", "content", "status", "phase", "name", "arguments", "call_id", "output", "input", "namespace"),
        *("summary", "encrypted_content", "action", "queries", "results", "tools"),
    )
)
"""An item that has only these keys has no look-alike and needs no check."""


def check_items(call: Mapping[str, object]) -> None:
    """Raise InvalidRequest if an item is ambiguous."""
    items = call.get("input")
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict) and (type(item) is not dict or not item.keys() <= _USUAL):
                check_keys(item, ITEM_NAMES, "input")


def has_reference(items: object) -> bool:
    """Whether an item in the value of `input` is a reference."""
    return isinstance(items, list) and any(map(is_reference, items))


def is_reference(item: object) -> bool:
    """Whether the item only names what upstream has stored."""
    return (
        isinstance(item, dict)
        and item.get("id") is not None
        and (item.get("type") == REFERENCE or item.keys() <= ITEM_NAMES)
    )
