"""The Responses API as different servers speak it: framing, headers, and which keys they have.

The shapes follow recordings and sources of the servers; the texts are the mock's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from app.mock import shapes
from app.mock.usage import MockUsage

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server speaks. `shape` gets each payload of a stream and gives the one to send, None for no event."""

    name: str
    summary: str
    openrouter: bool = False  # its errors, ids and headers
    costs: bool = False  # says in the usage what the call costs
    named_events: bool = True  # event: lines
    sentinel: bool = False  # data: [DONE] at the end
    comment: str = ""  # sent while there is nothing to say
    snapshots: bool = False  # answers with the model's dated name
    stateless: bool = False  # refuses store and previous_response_id
    obfuscates: bool = False  # pads deltas
    caches: bool = True
    cache_writes: bool = False
    counts_reasoning: bool = True
    generation_ids: bool = False  # the response id is the generation id
    request_id_header: str = "x-request-id"
    shape: Callable[[Json], Json | None] = shapes.as_it_is
    resource: Callable[[Json], Json] = shapes.whole
    usage_shape: Callable[[MockUsage], Json] = shapes.openai_usage

    def weigh(self, usage: MockUsage) -> MockUsage:
        """The usage as far as this server tells it apart; what it tells is what it bills."""
        if not self.caches:
            usage = replace(usage, cached_tokens=0)
        if not (self.caches and self.cache_writes):
            usage = replace(usage, cache_write_tokens=0)
        return usage if self.counts_reasoning else replace(usage, reasoning_tokens=0)

    def usage_json(self, usage: MockUsage, cost_nanousd: int) -> Json:
        """The usage object."""
        weighed = self.usage_shape(usage)
        return weighed | shapes.openrouter_cost(cost_nanousd) if self.costs else weighed

    def payload(self, payload: Json) -> Json | None:
        """An event's JSON as this server writes it."""
        if isinstance(payload.get("response"), dict):
            payload = {**payload, "response": self.resource(payload["response"])}
        return self.shape(payload)


_OPENROUTER = Dialect(
    "openrouter",
    "data lines only, comments while it waits, gen- ids, cost in the usage, [DONE]",
    openrouter=True,
    costs=True,
    named_events=False,
    sentinel=True,
    comment="OPENROUTER PROCESSING",
    stateless=True,
    generation_ids=True,
    cache_writes=True,
    request_id_header="",
)
_OPENAI = Dialect(
    "openai",
    "event and data lines, padded deltas, dated model names, the end right after the terminal event",
    snapshots=True,
    obfuscates=True,
    cache_writes=True,
    resource=shapes.openai,
)
_ALL = (
    _OPENROUTER,
    replace(_OPENROUTER, name="openrouter-named", summary="openrouter with event lines", named_events=True),
    replace(
        _OPENROUTER,
        name="openrouter-legacy",
        summary="the events of OpenRouter's first documentation: response.content_part.delta, response.done",
        costs=False,
        generation_ids=False,
        usage_shape=shapes.bare_usage,
        caches=False,
        counts_reasoning=False,
        shape=shapes.legacy_event,
        resource=shapes.legacy,
    ),
    _OPENAI,
    replace(
        _OPENAI,
        name="openresponses",
        summary="openai as the Open Responses specification has it: [DONE] at the end",
        sentinel=True,
        obfuscates=False,
        snapshots=False,
        resource=shapes.whole,
    ),
    replace(
        _OPENAI,
        name="azure",
        summary="openai with content_filters",
        obfuscates=False,
        cache_writes=False,
        request_id_header="apim-request-id",
        usage_shape=shapes.cached_usage,
        resource=shapes.azure,
    ),
    Dialect("vllm", "extra keys in the details, null text", usage_shape=shapes.vllm_usage, resource=shapes.vllm),
    Dialect(
        "llamacpp",
        "no sequence numbers, no indexes, three numbers of usage",
        request_id_header="",
        caches=False,
        counts_reasoning=False,
        usage_shape=shapes.bare_usage,
        shape=shapes.llamacpp_event,
        resource=shapes.llamacpp,
    ),
    Dialect(
        "ollama",
        "sorted keys, details always 0",
        request_id_header="",
        caches=False,
        counts_reasoning=False,
        usage_shape=shapes.cached_usage,
        resource=shapes.sorted_keys,
    ),
    Dialect(
        "lmstudio",
        "sorted keys, only output details",
        request_id_header="",
        caches=False,
        usage_shape=shapes.lmstudio_usage,
        resource=shapes.sorted_keys,
    ),
)
DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
