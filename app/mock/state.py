"""The state of one mock upstream."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from random import Random

from app.mock.books import MockBooks
from app.mock.call import Json
from app.mock.faults import NO_FAULTS, BadFault, FaultCounter, FaultSet, MockFault, parse_faults
from app.mock.generation import Generator
from app.mock.options import MockOptions
from app.mock.refusals import MockRefusal
from app.mock.stored import StoredResponses

_MOST_BODIES = 10_000


class MockState:
    """Made once for an app; lives on its event loop."""

    def __init__(self, options: MockOptions) -> None:
        self.options = options
        self.books = MockBooks(options.kept_calls, options.clock, options.books_file)
        self.stored = StoredResponses(options.kept_responses)
        self.generator = Generator(options.pace, options.clock)
        self._server_faults = parse_faults(options.faults)
        self._counter = FaultCounter()
        self._bodies: Counter[str] = Counter()

    def check_key(self, headers: Mapping[str, str]) -> str | None:
        """The key that the caller bears, if any. Raises Refusal (401) when it is not the one that is set."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        borne = key.strip() if scheme.lower() == "bearer" else None
        wanted = self.options.key
        if wanted is not None and not (borne and hmac.compare_digest(borne.encode(), wanted.encode())):
            raise MockRefusal(401)
        return borne

    def check_accounts(self) -> None:
        """Raise MockRefusal (404) if this mock sees only a part of the calls."""
        if not self.options.keeps_accounts:
            raise MockRefusal(404, "This mock is one of several and keeps no accounts.")

    def faults(self, headers: Mapping[str, str], body: Json) -> FaultSet:
        """The faults of a call: the server's, then those of x-mock-fault or metadata.mock_fault, which win."""
        metadata = body.get("metadata")
        noted = metadata.get("mock_fault") if isinstance(metadata, dict) else None
        spec = headers.get("x-mock-fault") or (noted if isinstance(noted, str) else "")
        if spec == NO_FAULTS:
            return FaultSet()
        try:
            own: tuple[MockFault, ...] = parse_faults(spec)
        except BadFault as bad:
            raise MockRefusal(400, str(bad), param="metadata.mock_fault") from bad
        return self._counter.due((*self._server_faults, *own))

    def rng(self, body: bytes) -> Random:
        """The random source of one call. With a seed it depends on the body and its number of repeats, not on time."""
        seed = self.options.seed
        if seed is None:
            return Random()  # noqa: S311 - it makes texts, not keys
        digest = hashlib.sha256(body).hexdigest()
        if len(self._bodies) > _MOST_BODIES:
            self._bodies.clear()
        self._bodies[digest] += 1
        return Random(f"{seed}/{digest}/{self._bodies[digest]}")  # noqa: S311 - likewise

    def reset(self) -> None:
        """As after a start, but for connections and streams that are open."""
        self.books.reset()
        self.stored.clear()
        self.generator.prompts.clear()
        self._counter.reset()
        self._bodies.clear()
