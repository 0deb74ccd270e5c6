"""Reads the outermost members of a JSON object of any size in small steps, and builds none of the values it skips.

A parser that builds all values takes thirty times the bytes of `[{},{},...` in memory, and blocks the loop for seconds.
The scan keeps a stack of brackets, the outermost keys and the few wanted values. It checks the whole grammar, so that
every other reader sees the same strings and members.

    value ──scalar, string──> after ──,──> key or value    (by the bracket it stands in)
      └──{──> key ──:──> value   └──} ]──> after
"""

import codecs
import json
from collections.abc import Callable, Generator, Iterator

from app.domain.request.json_grammar import AFTER, COLON, KEY, MEMBERS, SPACES, STRING_REST, VALUE, VALUES
from app.domain.request.json_outline import Outline, head_of
from app.domain.request.judged_names import lookalike, lookalike_message

MAX_DEPTH = 1000
MAX_CONTAINERS = 500_000
"""Objects and arrays that are not empty. The limit bounds the time: each costs a step of 0.5 us."""

MAX_KEYS = 10_000
"""Of the outermost object."""

MAX_OUTLINED = 500_000
"""Keys and values that an outline gets."""

KEEP_LIMIT_BYTES = 64 * 1024
"""The longest key that is read, and the longest wanted value that is kept."""

_SLICE_BYTES = 128 * 1024
_STEP = 2000
_BYTES_PER_TOKEN = 64
_TOKENS_PER_OUTLINED = 4
"""A step is 2,000 tokens. 64 bytes count as one token more, each key or value for an outline as four more."""

_BLANK = b" \t\r\n"
_LONGEST_ESCAPE = 6
_QUOTE, _BACKSLASH, _COMMA, _OPEN_BRACE, _OPEN_BRACKET, _BRACE, _BRACKET = b'"\\,{[}]'
_CLOSER_OF = {_OPEN_BRACE: _BRACE, _OPEN_BRACKET: _BRACKET}

State = Callable[[], "State"]


class JsonFault(Exception):
    """Why the bytes are refused, with a message for the caller. `key` is the member at fault, if one is."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.key = key


class JsonScan:
    """Scans one document. It refuses equal outermost keys however they are spelt, and look-alikes of wanted keys.

    Of a wanted value over 64 KiB, only the start of a text is kept. Values of `outlined` keys become an Outline. After
    the last step, `spans` has the positions of all kept values.
    """

    def __init__(self, body: bytes, wanted: frozenset[str], outlined: frozenset[str] = frozenset()) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self._outlined = outlined
        self._outline: Outline | None = None  # of the outermost value that is being read
        self._outlined_count = 0
        self._declined: int | None = None  # the depth of the container that the outline does not look into
        self._members: dict[str, object] = {}
        self._body = body
        self._wanted = wanted
        self._at = 0
        self._stack = bytearray()  # the closing brackets to come
        self._containers = 0
        self._keys: set[str] = set()
        self._keeping: str | None = None  # the wanted key whose value is being read
        self._value_from = self._value_to = 0  # where the outermost value is
        self._string_from = self._string_to = 0
        self._behind_string: State
        self._behind_spaces: State
        self._done = False

    def steps(self) -> Generator[None, None, dict[str, object]]:
        """Scan in steps of a millisecond or two; returns the wanted values. Raises JsonFault."""
        self._behind_string = self._behind_spaces = self._after
        try:
            yield from self._check_utf8()
            state: State = self._open
            while not self._done:
                work = 0
                while work < _STEP and not self._done:
                    before, outlined = self._at, self._outlined_count
                    state = state()
                    work += 1 + (self._at - before) // _BYTES_PER_TOKEN
                    work += (self._outlined_count - outlined) * _TOKENS_PER_OUTLINED
                yield
            return self._members
        finally:  # the states are methods of this object: a cycle would keep the body until a collection
            self._body = b""
            del self._behind_string, self._behind_spaces

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

    # -- states: each reads one token and returns the next state -------------------------------------------------

    def _open(self) -> State:
        found = VALUE.match(self._body, self._at)
        if found is None:
            return self._spaces(self._open)
        if found[1] == b"{":
            return self._go_in(found.end(), _OPEN_BRACE)
        if self._body[found.start() : found.end()].endswith(b"}"):
            self._at = found.end()
            return self._end
        raise JsonFault("The request body must be a JSON object.")

    def _key(self) -> State:
        found = KEY.match(self._body, self._at)
        if found is None:
            return self._spaces(self._key)
        if found[1] is None:
            return self._begin_string(found.end(), self._colon)
        self._note_key(found[1])
        self._at = found.end()
        return self._value

    def _colon(self) -> State:
        found = COLON.match(self._body, self._at)
        if found is None:
            return self._spaces(self._colon)
        if len(self._stack) == 1 or self._outlining:
            if self._string_to - self._string_from > KEEP_LIMIT_BYTES:
                raise JsonFault("The request body is JSON that cannot be read: a key is too long.")
            self._note_key(self._body[self._string_from : self._string_to])
        self._at = found.end()
        return self._value

    def _value(self) -> State:
        alone = len(self._stack) == 1 or self._outlining
        pattern = VALUE if alone else VALUES if self._stack[-1] == _BRACKET else MEMBERS
        found = pattern.match(self._body, self._at)
        if found is None:
            return self._spaces(self._value)
        mark = found[1]
        if mark is None:
            if alone:
                self._note_scalar(found.end() - len(found[0].lstrip(_BLANK)), found.end())
            self._at = found.end()
            return self._after
        if len(self._stack) == 1:
            self._value_from = found.end() - 1
        if mark == b'"':
            return self._begin_string(found.end(), self._text_end if alone else self._after)
        return self._go_in(found.end(), mark[0])

    def _text_end(self) -> State:
        """A text that is long or has escapes has ended."""
        self._note_scalar(self._string_from, self._at)
        return self._after

    def _after(self) -> State:
        found = AFTER.match(self._body, self._at)
        if found is None:
            return self._spaces(self._after)
        if self._keeping is not None and len(self._stack) == 1:
            self._keep(self._keeping)
        mark = found[1][0]
        if mark != _COMMA:
            return self._go_out(found.end())
        self._at = found.end()
        return self._key if self._stack[-1] == _BRACE else self._value

    def _in_string(self) -> State:
        """Skip a slice of a string that is long or has escapes."""
        stop = min(self._at + _SLICE_BYTES, len(self._body))
        found = STRING_REST.match(self._body, self._at, stop)
        at = found.end() if found is not None else self._at
        if at < stop and self._body[at] == _QUOTE:
            self._at = self._string_to = at + 1
            return self._behind_string
        cut = self._body[at : at + 1] == b"\\" and stop - at < _LONGEST_ESCAPE
        if stop == len(self._body) or (at < stop and not cut):
            self._at = at
            raise self._fault("a string is not well-formed")
        self._at = at
        return self._in_string

    def _in_spaces(self) -> State:
        found = SPACES.match(self._body, self._at, self._at + _SLICE_BYTES)
        self._at = found.end() if found is not None else self._at
        return self._behind_spaces

    def _end(self) -> State:
        found = SPACES.match(self._body, self._at, self._at + _SLICE_BYTES)
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
        if self._outlining and not self._next_outlined().enter(is_object=opener == _OPEN_BRACE):
            self._declined = len(self._stack)
        self._stack.append(_CLOSER_OF[opener])
        return self._key if opener == _OPEN_BRACE else self._value

    def _go_out(self, at: int) -> State:
        if self._body[at - 1] != self._stack.pop():
            raise self._fault("brackets do not match")
        self._at = at
        depth = len(self._stack)
        if self._declined == depth:
            self._declined = None
        elif self._outlining and depth:
            self._next_outlined().leave()
        if depth == 1:
            self._value_to = at
        return self._after if self._stack else self._end

    def _begin_string(self, at: int, behind: State) -> State:
        self._string_from = at - 1
        self._at = at
        self._behind_string = behind
        return self._in_string

    def _spaces(self, again: State) -> State:
        """There is no token here: skip white space, or raise JsonFault if there is none."""
        if self._body[self._at : self._at + 1] not in (b" ", b"\t", b"\r", b"\n"):
            raise self._fault("it breaks off" if self._at >= len(self._body) else "something else was expected")
        self._behind_spaces = again
        return self._in_spaces

    # -- what is kept --------------------------------------------------------------------------------------------

    @property
    def _outlining(self) -> bool:
        return self._outline is not None and self._declined is None

    def _next_outlined(self) -> Outline:
        """The outline, for one more key or value."""
        assert self._outline is not None  # noqa: S101 - only called while outlining
        self._outlined_count += 1
        if self._outlined_count > MAX_OUTLINED:
            raise JsonFault(f"`{self._keeping}` has over {MAX_OUTLINED} members.", self._keeping)
        return self._outline

    def _note_scalar(self, start: int, stop: int) -> None:
        if len(self._stack) == 1:
            self._value_from, self._value_to = start, stop
        if self._outlining:
            self._next_outlined().scalar(self._body, start, stop)

    def _note_key(self, raw: bytes) -> None:
        if len(self._stack) == 1:
            self._note_outermost(json.loads(raw))
        elif self._outlining:
            self._next_outlined().key(json.loads(raw))

    def _note_outermost(self, key: str) -> None:
        if key in self._keys:
            raise JsonFault(f"The request body has the key {key[:64]!r} twice.", key)
        if len(self._keys) == MAX_KEYS:
            raise JsonFault(f"The request body has over {MAX_KEYS} keys.")
        if (alike := lookalike((key,), self._wanted | self._outlined)) is not None:
            raise JsonFault(lookalike_message(alike), alike)
        self._keys.add(key)
        self._outline = Outline(key) if key in self._outlined else None
        self._keeping = key if key in self._wanted or self._outline is not None else None

    def _keep(self, key: str) -> None:
        start, stop = self.spans[key] = (self._value_from, self._value_to)
        outline, self._outline, self._keeping = self._outline, None, None
        if outline is not None:
            self._members[key] = outline.value
        elif stop - start > KEEP_LIMIT_BYTES:
            self._members[key] = head_of(self._body, start)
        else:
            try:
                self._members[key] = json.loads(self._body[start:stop])
            except (ValueError, RecursionError):
                raise JsonFault(f"`{key}` cannot be read.", key) from None

    def _fault(self, what: str) -> JsonFault:
        return JsonFault(f"The request body is not JSON: {what}, at byte {self._at}.")
