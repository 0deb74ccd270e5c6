"""The estimate: what a call may have used that broke off before upstream reported its usage.

It should be no less than what is likely billed, so that hanging up does not escape a budget. It is marked as an
estimate, and upstream's usage records replace it where there are any. The rules:

    input   3 bytes of the request's JSON are a token. Mainstream tokenizers need 3 to 5 bytes of prose, code or CJK
            text for one, and the JSON around the text counts too. Pictures and files in base64 come out far too high;
            what upstream stores itself (a stored prompt) is not in the bytes and comes out too low.
    output  3 bytes of text in the deltas that passed are a token, and each delta is at least one. Reasoning is billed
            and mostly not shown, and a document shows nothing until it is whole: so it is at least 100 tokens for each
            second that the call took, up to 32,768.
"""

import re
import sys

from app.domain.answer.usage import Usage
from app.domain.records import Outcome, Record

BYTES_PER_TOKEN = 3
TOKENS_PER_SECOND = 100
MOST_UNSEEN_TOKENS = 32_768

_DELTA = b'"delta":"'
_SPACED_DELTA = b'"delta": "'
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*')
_BACKSLASH = ord("\\")

_BROKEN_OFF = frozenset((Outcome.CLIENT_CLOSED, Outcome.TRUNCATED, Outcome.INTERRUPTED, Outcome.TIMEOUT))
"""Upstream could not report the usage. All other outcomes come from upstream's own answer."""


def delta_bytes(chunk: bytes | bytearray, low: int = 0, high: int = sys.maxsize) -> int:
    """About how many bytes of output text the deltas in `chunk[low:high]` hold, each at least a token's worth.

    The first delta stands for all in its chunk: mostly there is one, and searching a full chunk costs too much. Text is
    measured in its JSON form, so escapes count for more than they are.
    """
    name = _DELTA
    start = chunk.find(name, low, high)
    if start < 0:
        name = _SPACED_DELTA
        start = chunk.find(name, low, high)
        if start < 0:
            return 0
    begin = start + len(name)
    stop = chunk.find(b'"', begin, high)
    if stop < 0 or chunk[stop - 1] == _BACKSLASH:
        whole = _TEXT.match(chunk, begin, high)
        stop = whole.end() if whole is not None else begin
    text = max(stop - begin, BYTES_PER_TOKEN)
    following = chunk.find(name, stop, high)
    return text if following < 0 else text * (min(high, len(chunk)) - low) // (following - start)


def may_be_billed(record: Record) -> bool:
    """Whether upstream may bill an ended call without a usage.

    It may if the call was sent and broke off: the client left, the answer broke off or fell silent, the server stopped.
    It does not if the call was refused, or upstream never began to answer in time. A whole answer without a usage
    counts as unknown, since an estimate would hide that.
    """
    if not record.bytes_in or record.outcome not in _BROKEN_OFF:
        return False
    if record.time_to_first_byte_ms is None:
        return record.outcome is not Outcome.TIMEOUT
    return record.http_status is not None and 200 <= record.http_status < 300  # else upstream answered an error


def estimate(input_bytes: int, output_bytes: int, seconds: float) -> Usage:
    """The usage of a call, from the bytes of its request and of the output seen, and its duration."""
    into = _tokens(input_bytes)
    unseen = min(int(seconds * TOKENS_PER_SECOND), MOST_UNSEEN_TOKENS)
    out = max(_tokens(output_bytes), unseen)
    return Usage(input_tokens=into, output_tokens=out, total_tokens=into + out)


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
