"""Parsers of quantities such as "32MiB", "90s" or 30, from TOML or the environment.

All raise ValueError with a message that names the accepted forms and does not repeat the input.
"""

import math
import re

_SIZE = re.compile(r"(\d{1,18})\s*([kmgt]i?b|b)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*(ms|s|m|h)?", re.ASCII)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_count(value: object) -> int:
    """A whole number, or its digits. `true` is refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip(), re.ASCII):
        return int(value)
    raise ValueError("must be a whole number")


def parse_size(value: object) -> int:
    """A size in bytes: 33554432 or "32MiB" (KiB, MiB, GiB are powers of 1,024; kB, MB, GB powers of 1,000)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number of bytes, or a text such as "512KiB", "32MiB" or "1GiB"')
    return int(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()]


def parse_duration(value: object) -> float:
    """A duration in seconds: 90, 2.5, "90s", "500ms", "10m" or "1h"."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number of seconds, or a text such as "500ms", "90s", "10m" or "1h"')
    return float(match[1]) * _DURATION_UNITS[match[2] or "s"]


def format_size(size: int) -> str:
    """The shortest exact text that `parse_size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _SIZE_UNITS[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
