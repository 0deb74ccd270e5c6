"""The estimate: what a call may have weighed that broke off before upstream could say it.

It is meant to be no less than what is likely billed, so that a budget cannot be escaped by hanging up; it is marked as
an estimate and gives way to upstream's books wherever there are any. The rules:

    input   3 bytes of the request's JSON are a token. Mainstream tokenizers take 3 to 5 bytes of prose, code or CJK
            text for one, and the JSON around the text is counted too. Pictures and files in base64 come out far too
            high; what upstream keeps by itself (a stored prompt) is not in the bytes and comes out too low.
    output  3 bytes of text in the deltas that passed are a token, and no delta is less than one. But reasoning is
            billed and mostly not shown, and a document shows nothing until it is whole: so it is never less than
            100 tokens for each second that the call took, up to 32,768 (silence is not always thought).
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
"""Nobody could say any more what was billed. Whatever ended otherwise ended by upstream's own word."""


def delta_bytes(chunk: bytes | bytearray, low: int = 0, high: int = sys.maxsize) -> int:
    """About how many bytes of output text the deltas in `chunk[low:high]` hold, each at least a token's worth.

    The first delta stands for all in its chunk: mostly there is one, and 64 KiB of them must not cost 64 KiB of
    searching. Text is measured as JSON writes it, so escapes count for more than they are.
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
    """Whether upstream may bill an ended call of which nobody told the usage.

    It may where it was asked and could not finish: the client left, the answer broke off or fell silent, we stopped.
    Not when we refused the call or upstream did; not when upstream never began to answer in all its time; and not when
    an answer ended properly and told no usage: that is unknown, and a guess would hide it.
    """
    if not record.bytes_in or record.outcome not in _BROKEN_OFF:
        return False
    if record.time_to_first_byte_ms is None:
        return record.outcome is not Outcome.TIMEOUT
    return record.http_status is not None and 200 <= record.http_status < 300  # else it was reading upstream's error


def estimate(input_bytes: int, output_bytes: int, seconds: float) -> Usage:
    """The usage of a call from the bytes of its request, those of the output seen, and how long it took."""
    into = _tokens(input_bytes)
    unseen = min(int(seconds * TOKENS_PER_SECOND), MOST_UNSEEN_TOKENS)
    out = max(_tokens(output_bytes), unseen)
    return Usage(input_tokens=into, output_tokens=out, total_tokens=into + out)


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
