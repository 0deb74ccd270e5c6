"""JSON shapes by which the dialects differ. All take the OpenAI form; none changes what it is given."""

from typing import Any

from app.mock.usage import MockUsage

Json = dict[str, Any]

NANOUSD_PER_USD = 1_000_000_000

_LEGACY_EVENTS = {
    "response.created": "response.created",
    "response.output_item.added": "response.output_item.added",
    "response.content_part.added": "response.content_part.added",
    "response.output_text.delta": "response.content_part.delta",
    "response.output_item.done": "response.output_item.done",
    "response.completed": "response.done",
    "response.incomplete": "response.done",
    "response.failed": "response.failed",
    "error": "error",
    "response.error": "response.error",
}
_OPENING = ("in_progress", "queued")
_SAFE = {"filtered": False, "severity": "safe"}


# Events


def as_it_is(payload: Json) -> Json | None:
    """Every event as it is."""
    return payload


def legacy_event(payload: Json) -> Json | None:
    """Some events under older names, the rest left out; no sequence numbers."""
    kind = payload.get("type")
    if kind is not None and kind not in _LEGACY_EVENTS and not kind.startswith("response.mock"):
        return None
    named = {"type": _LEGACY_EVENTS.get(kind, kind)} if kind is not None else {}
    return named | {key: value for key, value in payload.items() if key not in ("type", "sequence_number", "logprobs")}


def llamacpp_event(payload: Json) -> Json | None:
    """Without sequence_number and indexes."""
    left_out = ("sequence_number", "output_index", "content_index", "summary_index", "logprobs")
    return {key: value for key, value in payload.items() if key not in left_out}


# Response objects


def whole(resource: Json) -> Json:
    """As it is."""
    return resource


def openai(resource: Json) -> Json:
    """With tool_usage in the end, and a few keys that only OpenAI has."""
    extra: Json = {"moderation": None, "prompt_cache_retention": "24h"}
    if resource["status"] not in _OPENING:
        nothing = {"image_tokens": 0, "text_tokens": 0}
        images = {"input_tokens": 0, "input_tokens_details": nothing, "output_tokens": 0, "total_tokens": 0}
        extra["tool_usage"] = {"image_gen": images, "web_search": {"num_requests": 0}}
    return resource | extra


def azure(resource: Json) -> Json:
    """With content_filters."""
    if resource["status"] in _OPENING:
        return resource | {"content_filters": None}
    results = {"hate": _SAFE, "violence": _SAFE}
    offsets = {"start_offset": 0, "end_offset": 44, "check_offset": 0}
    found = {"source_type": "completion", "content_filter_results": results, "content_filter_offsets": offsets}
    return resource | {"content_filters": [{"blocked": False, **found}]}


def vllm(resource: Json) -> Json:
    """Fewer keys, null text, messages that are not there."""
    left_out = ("completed_at", "error", "frequency_penalty", "presence_penalty", "prompt_cache_key", "store")
    kept = {key: value for key, value in resource.items() if key not in left_out or value}
    empty = {"text": None, "prompt": None, "input_messages": None, "output_messages": None}
    return kept | empty | {"metadata": resource["metadata"] or None}


def llamacpp(resource: Json) -> Json:
    """Next to nothing at first, little in the end."""
    opening = ("id", "object", "status")
    ending = (*opening, "created_at", "model", "output", "usage", "error", "incomplete_details")
    return _few(resource, opening if resource["status"] in _OPENING else ending)


def legacy(resource: Json) -> Json:
    """Id, status, and usage in the end."""
    opening = ("id", "object", "status")
    return _few(resource, opening if resource["status"] in _OPENING else (*opening, "usage", "error", "error_type"))


def _few(resource: Json, keys: tuple[str, ...]) -> Json:
    """The keys that are there and not null; a null usage stays, since it says something."""
    return {key: resource[key] for key in keys if resource.get(key) is not None or (key == "usage" and key in resource)}


def sorted_keys(resource: Json) -> Json:
    """Keys in the order of the alphabet."""
    return dict(sorted(resource.items()))


# Usage


def openai_usage(usage: MockUsage) -> Json:
    """With both details, cache writes among them."""
    details = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    return _usage(usage, input_details=details, output_details={"reasoning_tokens": usage.reasoning_tokens})


def cached_usage(usage: MockUsage) -> Json:
    """With both details, without cache writes."""
    details = {"cached_tokens": usage.cached_tokens}
    return _usage(usage, input_details=details, output_details={"reasoning_tokens": usage.reasoning_tokens})


def vllm_usage(usage: MockUsage) -> Json:
    """With more details than anybody asked for."""
    cached = {"cached_tokens": usage.cached_tokens, "input_tokens_per_turn": [], "cached_tokens_per_turn": []}
    reasoned = {"reasoning_tokens": usage.reasoning_tokens, "tool_output_tokens": 0}
    turns: Json = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
    return _usage(usage, input_details=cached, output_details=reasoned | turns)


def bare_usage(usage: MockUsage) -> Json:
    """Three numbers."""
    return _usage(usage)


def lmstudio_usage(usage: MockUsage) -> Json:
    """Output details only."""
    return _usage(usage, output_details={"reasoning_tokens": usage.reasoning_tokens})


def _usage(usage: MockUsage, input_details: Json | None = None, output_details: Json | None = None) -> Json:
    weighed: Json = {"input_tokens": usage.input_tokens}
    if input_details is not None:
        weighed["input_tokens_details"] = input_details
    weighed["output_tokens"] = usage.output_tokens
    if output_details is not None:
        weighed["output_tokens_details"] = output_details
    weighed["total_tokens"] = usage.total_tokens
    return weighed


def openrouter_cost(cost_nanousd: int) -> Json:
    """The cost in US dollars, as OpenRouter adds it to a usage."""
    details = {"upstream_inference_cost": None}
    return {"cost": cost_nanousd / NANOUSD_PER_USD, "is_byok": False, "cost_details": details}
