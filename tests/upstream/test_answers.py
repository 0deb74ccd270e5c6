"""Answers of every framing, whole and cut anywhere, arrive as they are; broken ones break the call and say why."""

import itertools

import pytest

from app.domain.errors import UpstreamProtocolError, UpstreamRedirected
from app.upstream.wire.framing import MAX_HEAD_BYTES
from tests.upstream.conftest import Scene
from tests.upstream.raw_server import Peer, Script, canned, chunked, sized, until

HEADERS = (b"Content-Type: text/event-stream", b"X-Odd: \xff\xfe", b"x-odd: twice")
HEARD_HEADERS = [(b"content-type", b"text/event-stream"), (b"x-odd", b"\xff\xfe"), (b"x-odd", b"twice")]
SIZED = sized(b"data: one\n\ndata: two\n\n", *HEADERS)
CHUNKED = chunked(b"data: one\n\n", b"data: two\n\n", headers=HEADERS)
HEAD = b"HTTP/1.1 200 OK\r\n"


def in_pieces(*pieces: bytes, close: bool = False) -> Script:
    """Each request gets the same pieces, each read by itself."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(*pieces)
            if close:
                return

    return script


@pytest.mark.parametrize("answer", [SIZED, CHUNKED], ids=["sized", "chunked"])
async def test_an_answer_cut_anywhere_is_the_same_answer(scene: Scene, answer: bytes) -> None:
    cuts = itertools.count(1)

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            cut = next(cuts)
            await peer.send(answer[:cut], answer[cut:])

    wire, _ = await scene.wired(script)
    head_bytes = answer.index(b"\r\n\r\n") + 4
    for cut in range(1, len(answer)):
        heard = await scene.ask(wire)
        assert (heard.status, heard.body, heard.ended) == (200, b"data: one\n\ndata: two\n\n", True), cut
        assert heard.headers[:3] == HEARD_HEADERS
        if answer is SIZED and cut > head_bytes:  # the pieces really were two
            assert heard.chunks == [answer[head_bytes:cut], answer[cut:]]


async def test_a_byte_at_a_time(scene: Scene) -> None:
    wire, _ = await scene.wired(in_pieces(*(CHUNKED[i : i + 1] for i in range(len(CHUNKED)))))
    heard = await scene.ask(wire)
    assert heard.body == b"data: one\n\ndata: two\n\n"
    assert all(len(chunk) == 1 for chunk in heard.chunks)


async def test_what_arrives_together_is_handed_over_together(scene: Scene) -> None:
    events = b"".join(b"6\r\nevent%d\r\n" % n for n in range(5))
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    wire, _ = await scene.wired(in_pieces(head, events, events + b"0\r\n\r\n"))
    heard = await scene.ask(wire)
    assert heard.chunks == [b"event0event1event2event3event4"] * 2


async def test_a_long_answer_arrives_whole(scene: Scene) -> None:
    body = bytes(range(256)) * 20_000
    chunks = [body[n : n + 70_000] for n in range(0, len(body), 70_000)]
    wire, _ = await scene.wired(canned(sized(body), chunked(*chunks)))
    for _ in range(2):
        assert (await scene.ask(wire)).body == body


FINE = {
    "interim 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, SIZED[-22:]),
    "interim 103": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + CHUNKED, b"data: one\n\ndata: two\n\n"),
    "interim twice": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\n\r\n" + SIZED, SIZED[-22:]),
    "empty": (sized(b""), b""),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
    "chunk extensions": (HEAD + b"transfer-encoding: chunked\r\n\r\n2;a=b;c\r\nhi\r\n0;last\r\n\r\n", b"hi"),
    "trailers": (chunked(b"hi", trailers=b"content-type: evil\r\nx-late: 1\r\n"), b"hi"),
    "coding in capitals": (HEAD + b"Transfer-Encoding: Chunked \r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
    "zero in many digits": (HEAD + b"transfer-encoding: chunked\r\n\r\n002\r\nhi\r\n0000\r\n\r\n", b"hi"),
}


@pytest.mark.parametrize(("answer", "body"), FINE.values(), ids=FINE)
async def test_an_unusual_answer_is_an_answer(scene: Scene, answer: bytes, body: bytes) -> None:
    wire, _ = await scene.wired(canned(answer, answer))
    for _ in range(2):
        heard = await scene.ask(wire)
        assert (heard.status, heard.body, heard.ended, heard.retry_count) == (200, body, True, 0)
        assert b"link" not in dict(heard.headers)
        assert b"x-late" not in dict(heard.headers)
        assert [value for name, value in heard.headers if name == b"content-type"] in ([], [b"text/event-stream"])


async def test_the_interim_answer_may_come_long_before(scene: Scene) -> None:
    wire, _ = await scene.wired(in_pieces(b"HTTP/1.1 100 Continue\r\n", b"\r\n", SIZED))
    assert (await scene.ask(wire)).status == 200


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("header", [b"x: y", b"content-length: 0", b"content-length: 5", b"transfer-encoding: chunked"])
async def test_some_statuses_have_no_body_whatever_is_said(scene: Scene, status: bytes, header: bytes) -> None:
    wire, _ = await scene.wired(canned(b"HTTP/1.1 %b\r\n%b\r\n\r\n" % (status, header)))
    heard = await scene.ask(wire)
    assert (heard.status, heard.chunks, heard.ended) == (int(status[:3]), [], True)


@pytest.mark.parametrize("head", [HEAD + b"\r\n", b"HTTP/1.0 200 OK\r\n\r\n", HEAD + b"connection: close\r\n\r\n"])
async def test_a_body_without_a_length_ends_with_the_connection(scene: Scene, head: bytes) -> None:
    wire, server = await scene.wired(in_pieces(head, b"one", b"two", close=True))
    for n in (1, 2):
        heard = await scene.ask(wire)
        assert (heard.chunks, heard.ended, server.accepted) == ([b"one", b"two"], True, n)


BROKEN = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
    "no such version": b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "length and chunks": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
    "the same length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nhi",
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\nhi",
    "a negative length": HEAD + b"content-length: -2\r\n\r\nhi",
    "a huge length": HEAD + b"content-length: 99999999999999999999999\r\n\r\nhi",
    "gzip in transfer": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "gzip after chunks": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"transfer-encoding: identity\r\n\r\nhi",
    "NUL in a header": HEAD + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "a bare CR in a header": HEAD + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
    "a bare LF in a header": HEAD + b"x: a\nb: c\r\ncontent-length: 0\r\n\r\n",
    "a folded header": HEAD + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": HEAD + b"content-length : 0\r\n\r\n",
    "a huge header": HEAD + b"x: " + b"a" * MAX_HEAD_BYTES + b"\r\ncontent-length: 0\r\n\r\n",
    "20,000 headers": HEAD + b"a:b\r\n" * 20_000 + b"content-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_what_is_not_an_answer_breaks_the_call_before_its_head(scene: Scene, answer: bytes) -> None:
    wire, server = await scene.wired(canned(answer, SIZED))
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert (heard.status, heard.chunks) == (None, [])
    assert (await scene.ask(wire)).body == b"data: one\n\ndata: two\n\n"
    assert server.accepted == 2


@pytest.mark.parametrize("switch", [b"connection: upgrade\r\nupgrade: websocket\r\n", b""])
async def test_a_protocol_switch_is_refused(scene: Scene, switch: bytes) -> None:
    wire, server = await scene.wired(canned(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\nrest" % switch, SIZED))
    assert isinstance((await scene.ask(wire)).fault, UpstreamRedirected)
    assert (await scene.ask(wire)).ended
    assert server.accepted == 2


ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"a" * 1000, None),
    "header": (HEAD + b"x: ", b"a" * 1000, None),
    "headers": (HEAD, b"x: y\r\n" * 100, None),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", None),
    "chunk extension": (CHUNKED[:-5] + b"5;", b"a" * 1000, 200),
    "trailer": (CHUNKED[:-2] + b"x: ", b"a" * 1000, 200),
    "trailers": (CHUNKED[:-2], b"x: y\r\n" * 100, 200),
}


@pytest.mark.parametrize(("start", "more", "status"), ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_is_cut_off(scene: Scene, start: bytes, more: bytes, status: int | None) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        while not scene_over:
            await peer.send(more)

    scene_over: list[bool] = []
    wire, server = await scene.wired(script)
    heard = await scene.ask(wire)
    scene_over.append(True)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert heard.status == status
    assert server.peers[0].sent_bytes < 3 * MAX_HEAD_BYTES


async def test_a_long_stream_in_small_frames_is_no_long_header(scene: Scene) -> None:
    frames = MAX_HEAD_BYTES // 1000 + 10
    pieces = [piece for _ in range(frames) for piece in (b"1;" + b"x" * 998 + b"\r\n", b"a\r\n")]
    wire, _ = await scene.wired(in_pieces(HEAD + b"transfer-encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n"))
    heard = await scene.ask(wire)
    assert (heard.body, heard.ended) == (b"a" * frames, True)


@pytest.mark.parametrize("apart", [False, True])
async def test_bytes_before_the_damage_count(scene: Scene, apart: bool) -> None:
    pieces = [HEAD + b"transfer-encoding: chunked\r\n\r\n", b"2\r\nhi\r\n", b"2\r\nhohoho\r\n0\r\n\r\n"]
    wire, _ = await scene.wired(in_pieces(*pieces) if apart else in_pieces(b"".join(pieces)))
    heard = await scene.ask(wire)
    assert (heard.status, heard.body, heard.ended) == (200, b"hiho", False)
    assert isinstance(heard.fault, UpstreamProtocolError)


@pytest.mark.parametrize("answer", [SIZED[:-1], CHUNKED[:-2], CHUNKED[:-7], CHUNKED[:-12]])
async def test_an_answer_that_promises_more_than_comes_is_broken(scene: Scene, answer: bytes) -> None:
    wire, _ = await scene.wired(in_pieces(answer, close=True))
    heard = await scene.ask(wire)
    assert heard.status == 200
    assert len(heard.body) >= 11
    assert b"data: one\n\ndata: two\n\n".startswith(heard.body)
    assert isinstance(heard.fault, UpstreamProtocolError)


@pytest.mark.parametrize("framing", [b"", b"content-length: 100\r\n", b"transfer-encoding: chunked\r\n"])
async def test_a_reset_is_never_a_proper_end(scene: Scene, framing: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + framing + b"\r\n")
        await peer.send(b"3\r\nabc\r\n")
        await until(lambda: hearing.size > 0)
        peer.reset()

    wire, _ = await scene.wired(script)
    hearing = scene.open(wire)
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamProtocolError)
    assert not hearing.ended
