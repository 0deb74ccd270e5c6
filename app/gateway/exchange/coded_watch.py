"""The key watch of a coded answer: the coded bytes pass, and what they decode to is screened for the key."""

from app.gateway.exchange.answer_coding import AnswerDecoder, DamagedError, UnreadableError, begins_as_text
from app.gateway.exchange.key_guard import KeyGuard

MOST_HELD_BYTES = 1024 * 1024
"""Most coded bytes that wait because their text ends in a beginning of the key. A zstd frame has 128 KiB at most."""


class CodedWatch:
    """Screens coded chunks as a KeyWatch does plain ones, and keeps their text for the meter.

    An unknown coding or damage ends the decoding (`blind`): from there on only the coded bytes are screened. An answer
    that begins as JSON or events do is not coded: a proxy has decoded it and left the header.
    """

    def __init__(self, coding: bytes, guard: KeyGuard) -> None:
        self.damaged = False
        self.blind = False
        self._decoder = AnswerDecoder(coding)
        self._guard = guard
        self._began = False  # something has been decoded
        self._plain = False  # it is not coded at all
        self._watch = guard.watch()  # over the text; once blind, over the bytes
        self._released = False
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._text: list[bytes] = []

    @property
    def held(self) -> bool:
        """Whether bytes wait for the next chunk."""
        return bool(self._watch.held)

    @property
    def whole(self) -> bool:
        """Whether the answer may end here. One that cannot be decoded always may, unless it is damaged."""
        return not self.damaged if self.blind or self._plain else self._decoder.whole

    def screen(self, chunk: bytes) -> bytes | None:
        """The bytes that may pass. None if the key is in the chunk, or in its text."""
        if self._released:
            return chunk
        if not self.blind:
            try:
                return self._screen_text(chunk, self._decoded(chunk))
            except (UnreadableError, DamagedError) as error:
                if self._watch.held:
                    return None  # the text ended in a beginning of the key, and the rest cannot be judged
                self.blind, self.damaged = True, isinstance(error, DamagedError)
                self._watch = self._guard.watch()
        return self._watch.screen(chunk)

    def release(self) -> bytes:
        """The held bytes, once the answer has ended. From then on everything passes."""
        self._released = True
        rest = self._watch.release()
        if self.blind:
            return rest
        self._text.append(rest)
        return self._with_held(b"")

    def take_text(self) -> bytes:
        """The text that was decoded since the last call, and may pass."""
        text, self._text = b"".join(self._text), []
        return text

    def _decoded(self, chunk: bytes) -> bytes:
        began, self._began = self._began, True
        try:
            return chunk if self._plain else self._decoder.feed(chunk)
        except DamagedError:
            if began or not begins_as_text(chunk):
                raise
            self._plain = True
            return chunk

    def _screen_text(self, chunk: bytes, text: bytes) -> bytes | None:
        if not self._held:
            self._text.clear()  # the meter does not take it after the terminal event
        if text:
            screened = self._watch.screen(text)
            if screened is None:
                return None
            self._text.append(screened)
        if not self._watch.held:
            return self._with_held(chunk) if self._held else chunk
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        return b"" if self._held_bytes <= MOST_HELD_BYTES else None

    def _with_held(self, chunk: bytes) -> bytes:
        held, self._held, self._held_bytes = self._held, [], 0
        return b"".join([*held, chunk])
