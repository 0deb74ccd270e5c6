"""From a call to its answer."""

from collections.abc import Callable, Sequence
from random import Random

from app.mock.answer import MockAnswer
from app.mock.call import MockCall
from app.mock.composer import Composer
from app.mock.faults import FaultSet
from app.mock.ids import Ids
from app.mock.items import Item, Thought, cut_to
from app.mock.pace import Pace
from app.mock.usage import MockUsage, PromptCache, input_tokens


class Generator:
    """Makes answers; remembers the prompts that it saw. `clock` is seconds since 1970."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self.prompts = PromptCache()
        self._pace = pace
        self._clock = clock

    def generate(self, call: MockCall, faults: FaultSet, rng: Random) -> MockAnswer:
        """The answer that would be given if nothing went wrong on its way."""
        items: list[Item] = Composer(call, rng, echo_key="echo-key" in faults).compose()
        made = sum(item.tokens for item in items)
        limit = call.number("max_output_tokens") or made
        if "incomplete" in faults:
            limit = min(limit, made // 2)
        kept = cut_to(items, limit) if limit < made else items
        usage, now = self.weigh(call, kept), self._clock()
        return MockAnswer(
            call=call,
            ids=Ids.make(rng, int(now), alike=call.dialect.generation_ids),
            created_at=int(now),
            completed_at=int(now + self._pace.planned(usage.output_tokens)),
            items=kept,
            usage=usage,
            incomplete_reason="max_output_tokens" if limit < made else None,
        )

    def weigh(self, call: MockCall, output: Sequence[Item]) -> MockUsage:
        """The usage of the call and its output, as the dialect reports it. The prompt goes into the cache."""
        cached, written = self.prompts.weigh(call.prompt)
        reasoning = sum(item.tokens for item in output if isinstance(item, Thought))
        made = sum(item.tokens for item in output)
        return call.dialect.weigh(MockUsage(input_tokens(call.prompt), cached, written, made, reasoning))
