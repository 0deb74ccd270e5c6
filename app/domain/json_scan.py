"""Reads the outermost members of a JSON object of any size, in small steps, building nothing of what it passes over.

A parser that builds values takes thirty times the bytes of `[{},{},...` in memory, and seconds in which nothing else
goes on. The scan keeps a stack of brackets, the outermost keys and the few values asked for. It knows the whole
grammar, so that what it lets pass is JSON for any other reader too: strings end where all readers see them end.

    value ──scalar, string──> after ──,──> key or value    (by the bracket it stands in)
      └──{──> key ──:──> value   └──} ]──> after
"""

import codecs
import json
import re
from collections.abc import Callable, Generator, Iterator

MAX_DEPTH = 1000
MAX_CONTAINERS = 500_000
"""Objects and arrays that hold something. They bound the time: a step more for each, 0.5 us."""

MAX_KEYS = 10_000
"""Of the outermost object."""

KEEP_LIMIT_BYTES = 64 * 1024
"""The longest outermost key, and the longest value that is kept of those asked for."""

_SLICE_BYTES = 128 * 1024
_STEP = 2000
_BYTES_A_TOKEN = 64
"""A step is so many tokens; every so many bytes count as one more."""

_SPACE = rb"[ \t\r\n]{0,256}+"
_HOLLOW = rb"[ \t\r\n]{0,65536}+"
_TEXT = rb'"[^"\\\x00-\x1f]{0,1024}+"'
_NUMBER = rb"-?+(?:0|[1-9][0-9]{0,4299}+)(?:\.[0-9]{1,4300}+)?+(?:[eE][+-]?+[0-9]{1,4300}+)?+"
_KEY = re.compile(_SPACE + rb'(?:(%b)%b:|")' % (_TEXT, _SPACE))
_COLON = re.compile(_SPACE + rb"(:)")
_SCALAR = rb"(?:%b|%b|true|false|null|\{%b\}|\[%b\])" % (_TEXT, _NUMBER, _HOLLOW, _HOLLOW)
_VALUE = re.compile(_SPACE + rb'(?:%b|(["{\[]))' % _SCALAR)
_VALUES = re.compile(_SPACE + rb'(?:%b(?:%b,%b%b){0,64}+|(["{\[]))' % (_SCALAR, _SPACE, _SPACE, _SCALAR))
_MEMBERS = re.compile(
    _SPACE + rb'(?:%b(?:%b,%b%b%b:%b%b){0,32}+|(["{\[]))' % (_SCALAR, _SPACE, _SPACE, _TEXT, _SPACE, _SPACE, _SCALAR),
)
"""A value, and with it the plain ones that follow in its array, or the plain members in its object."""

_AFTER = re.compile(_SPACE + rb"([,}\]])")
_STRING_REST = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+',
)
_SPACES = re.compile(rb"[ \t\r\n]*+")
_LONGEST_ESCAPE = 6
_QUOTE, _BACKSLASH, _COMMA, _OPEN_BRACE, _OPEN_BRACKET, _BRACE, _BRACKET = b'"\\,{[}]'
_CLOSER_OF = {_OPEN_BRACE: _BRACE, _OPEN_BRACKET: _BRACKET}

State = Callable[[], "State"]


class JsonFault(Exception):
    """Why the bytes are refused, in words for the caller. `key` is the one that stands there twice."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.key = key


class JsonScan:
    """One document. Equal outermost keys are refused however they are spelt; a wanted value over 64 KiB is, too.

    Those that `may_be_long` are left as the bytes that they are when they are over 64 KiB.
    """

    def __init__(self, body: bytes, wanted: frozenset[str], may_be_long: frozenset[str] = frozenset()) -> None:
        self._may_be_long = may_be_long
        self._members: dict[str, object] = {}
        self._body = body
        self._wanted = wanted
        self._at = 0
        self._stack = bytearray()  # closing brackets that are due
        self._containers = 0
        self._keys: set[str] = set()
        self._keeping: tuple[str, int] | None = None  # a wanted key, and where its value begins
        self._string_from = 0
        self._behind_string: State = self._after
        self._behind_spaces: State = self._after
        self._done = False

    def steps(self) -> Generator[None, None, dict[str, object]]:
        """Do the work, a millisecond or two a step; returns the outermost values that were wanted. Raises JsonFault."""
        yield from self._check_utf8()
        state: State = self._open
        while not self._done:
            work = 0
            while work < _STEP and not self._done:
                before = self._at
                state = state()
                work += 1 + (self._at - before) // _BYTES_A_TOKEN
            yield
        return self._members

    def _check_utf8(self) -> Iterator[None]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        view = memoryview(self._body)
        try:
            for start in range(0, len(view), _SLICE_BYTES):
                decoder.decode(view[start : start + _SLICE_BYTES])
                yield
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise JsonFault("The request body is not UTF-8.") from None

    # -- states: each takes one token and names the next state ---------------------------------------------------

    def _open(self) -> State:
        found = _VALUE.match(self._body, self._at)
        if found is None:
            return self._spaces(self._open)
        if found[1] == b"{":
            return self._go_in(found.end(), _OPEN_BRACE)
        if self._body[found.start() : found.end()].endswith(b"}"):
            self._at = found.end()
            return self._end
        raise JsonFault("The request body must be a JSON object.")

    def _key(self) -> State:
        found = _KEY.match(self._body, self._at)
        if found is None:
            return self._spaces(self._key)
        if found[1] is None:
            return self._begin_string(found.end(), self._colon)
        if len(self._stack) == 1:
            self._note_key(found[1], found.end())
        self._at = found.end()
        return self._value

    def _colon(self) -> State:
        found = _COLON.match(self._body, self._at)
        if found is None:
            return self._spaces(self._colon)
        if len(self._stack) == 1:
            if self._at - self._string_from > KEEP_LIMIT_BYTES:
                raise JsonFault("The request body is JSON that cannot be read: a key is too long.")
            self._note_key(self._body[self._string_from : self._at], found.end())
        self._at = found.end()
        return self._value

    def _value(self) -> State:
        outermost = len(self._stack) == 1
        pattern = _VALUE if outermost else _VALUES if self._stack[-1] == _BRACKET else _MEMBERS
        found = pattern.match(self._body, self._at)
        if found is None:
            return self._spaces(self._value)
        mark = found[1]
        if mark is None:
            self._at = found.end()
            return self._after
        if mark == b'"':
            return self._begin_string(found.end(), self._after)
        return self._go_in(found.end(), mark[0])

    def _after(self) -> State:
        found = _AFTER.match(self._body, self._at)
        if found is None:
            return self._spaces(self._after)
        if self._keeping is not None and len(self._stack) == 1:
            self._keep(found.start())
        mark = found[1][0]
        if mark != _COMMA:
            return self._go_out(found.end())
        self._at = found.end()
        return self._key if self._stack[-1] == _BRACE else self._value

    def _in_string(self) -> State:
        """Pass over a slice of a string that is long, or has escapes."""
        stop = min(self._at + _SLICE_BYTES, len(self._body))
        found = _STRING_REST.match(self._body, self._at, stop)
        at = found.end() if found is not None else self._at
        if at < stop and self._body[at] == _QUOTE:
            self._at = at + 1
            return self._behind_string
        cut = self._body[at : at + 1] == b"\\" and stop - at < _LONGEST_ESCAPE
        if stop == len(self._body) or (at < stop and not cut):
            self._at = at
            raise self._fault("a string is not well-formed")
        self._at = at
        return self._in_string

    def _in_spaces(self) -> State:
        found = _SPACES.match(self._body, self._at, self._at + _SLICE_BYTES)
        self._at = found.end() if found is not None else self._at
        return self._behind_spaces

    def _end(self) -> State:
        found = _SPACES.match(self._body, self._at, self._at + _SLICE_BYTES)
        if found is None or found.end() == self._at < len(self._body):
            raise self._fault("something follows the object")
        self._at = found.end()
        self._done = self._at == len(self._body)
        return self._end

    # -- moving --------------------------------------------------------------------------------------------------

    def _go_in(self, at: int, opener: int) -> State:
        if len(self._stack) == MAX_DEPTH:
            raise JsonFault("The request body is JSON that cannot be read: it is nested too deeply.")
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise JsonFault(f"The request body has over {MAX_CONTAINERS} objects and arrays.")
        self._at = at
        self._stack.append(_CLOSER_OF[opener])
        return self._key if opener == _OPEN_BRACE else self._value

    def _go_out(self, at: int) -> State:
        if self._body[at - 1] != self._stack.pop():
            raise self._fault("brackets do not match")
        self._at = at
        return self._after if self._stack else self._end

    def _begin_string(self, at: int, behind: State) -> State:
        self._string_from = at - 1
        self._at = at
        self._behind_string = behind
        return self._in_string

    def _spaces(self, again: State) -> State:
        """No token is here: pass over white space if there is any, else the bytes are no JSON."""
        if self._body[self._at : self._at + 1] not in (b" ", b"\t", b"\r", b"\n"):
            raise self._fault("it breaks off" if self._at >= len(self._body) else "something else was expected")
        self._behind_spaces = again
        return self._in_spaces

    # -- the outermost object ------------------------------------------------------------------------------------

    def _note_key(self, raw: bytes, value_from: int) -> None:
        key: str = json.loads(raw)
        if key in self._keys:
            raise JsonFault(f"The request body has the key {key[:64]!r} twice.", key)
        if len(self._keys) == MAX_KEYS:
            raise JsonFault(f"The request body has over {MAX_KEYS} keys.")
        self._keys.add(key)
        self._keeping = (key, value_from) if key in self._wanted else None

    def _keep(self, end: int) -> None:
        if self._keeping is None:
            return
        (key, start), self._keeping = self._keeping, None
        if end - start > KEEP_LIMIT_BYTES:
            if key in self._may_be_long:
                self._members[key] = self._body[start:end]
                return
            raise JsonFault(f"`{key}` is too long.", key)
        try:
            self._members[key] = json.loads(self._body[start:end])
        except (ValueError, RecursionError):
            raise JsonFault(f"`{key}` cannot be read.", key) from None

    def _fault(self, what: str) -> JsonFault:
        return JsonFault(f"The request body is not JSON: {what}, at byte {self._at}.")
