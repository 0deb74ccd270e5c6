"""POST /responses/compact and /responses/input_tokens."""

import base64
from random import Random

from starlette.requests import Request
from starlette.responses import Response

from app.mock.call import Json, MockCall, item_text
from app.mock.framing import encode
from app.mock.headers import dialect_headers
from app.mock.ids import Ids, random_id
from app.mock.items import Message
from app.mock.reception import Reception
from app.mock.refusals import MockRefusal
from app.mock.state import MockState
from app.mock.texts import tokenise
from app.mock.usage import input_tokens

_MOST_SUMMARY_TOKENS = 200


class Compaction:
    """The routes that compact an input or count its tokens."""

    def __init__(self, state: MockState) -> None:
        self._state = state
        self._reception = Reception(state)

    async def compact(self, request: Request) -> Response:
        """The user's messages, and everything else sealed into one item. Billed."""
        call, raw = await self._reception.take(request)
        if call.body.get("model") is None:
            raise MockRefusal(
                400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
            )
        rng, now = self._state.rng(raw), int(self._state.options.clock())
        summary = Message(random_id("msg", rng), pieces=tuple(tokenise(call.prompt)[:_MOST_SUMMARY_TOKENS]))
        usage = self._state.generator.weigh(call, [summary])
        entry = self._state.books.open(call, Ids.make(rng, now, alike=False), path=request.url.path, full=usage)
        entry.reported = entry.terminal_sent = True
        self._state.books.close(entry, status="completed", whole=True)
        document = {
            "id": entry.id,
            "object": "response.compaction",
            "created_at": now,
            "output": [*_user_messages(call, rng), _sealed(summary, rng)],
            "usage": call.dialect.usage_json(usage, entry.cost_nanousd),
        }
        return _json(document, call, entry.generation_id, rng)

    async def count(self, request: Request) -> Response:
        """The tokens of an input. Free."""
        call, raw = await self._reception.take(request)
        counted = {"object": "response.input_tokens", "input_tokens": input_tokens(call.prompt)}
        return _json(counted, call, "", self._state.rng(raw))


def _json(document: Json, call: MockCall, generation_id: str, rng: Random) -> Response:
    response = Response(encode(document), media_type="application/json")
    named = dialect_headers(call.dialect, generation_id, rng)
    response.raw_headers += [header for header in named if header[1]]
    return response


def _user_messages(call: MockCall, rng: Random) -> list[Json]:
    said = [item_text(item) for item in call.items if item.get("role") == "user"]
    head = {"type": "message", "status": "completed", "role": "user"}
    return [{"id": random_id("msg", rng), **head, "content": [{"type": "input_text", "text": text}]} for text in said]


def _sealed(summary: Message, rng: Random) -> Json:
    secret = base64.b64encode("".join(summary.pieces).encode("utf-8", "replace")).decode()
    return {"id": random_id("cmp", rng), "type": "compaction", "encrypted_content": secret}
