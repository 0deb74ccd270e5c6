"""What leaves: one head, with the server's key in it and nothing that the caller could have smuggled in."""

import pytest

from app.domain.errors import UpstreamUnreachable
from app.domain.headers import towards_upstream
from app.gateway.ports import UpstreamRequest
from app.upstream.wire.target import Target
from tests.upstream.conftest import KEY, POST, Scene
from tests.upstream.raw_server import HeardRequest, canned, sized

OWN = sized(b"own")


async def heard_by_upstream(scene: Scene, request: UpstreamRequest, prefix: str = "/v1") -> HeardRequest:
    heard: list[HeardRequest] = []
    server = await scene.serve(canned(OWN, heard=heard))
    await scene.ask(scene.wire(f"http://127.0.0.1:{server.port}{prefix}"), request)
    return heard[0]


async def test_the_head_is_ours_line_by_line(scene: Scene) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-odd", b"\xff \t:"), (b"x-odd", b"")]
    heard = await heard_by_upstream(scene, UpstreamRequest("POST", "/responses?a=b%0A&c", headers, b"{}"))
    port = heard.values(b"host")[0].rpartition(b":")[2]
    assert heard.head.split(b"\r\n") == [
        b"POST /v1/responses?a=b%0A&c HTTP/1.1",
        b"host: 127.0.0.1:" + port,
        b"authorization: Bearer " + KEY.encode(),
        b"accept-encoding: identity",
        b"content-type: application/json",
        b"x-odd: \xff \t:",
        b"x-odd: ",
        b"content-length: 2",
        b"",
        b"",
    ]
    assert heard.body == b"{}"


@pytest.mark.parametrize(
    ("method", "body", "lengths"),
    [("POST", b"", [b"0"]), ("POST", b"abc", [b"3"]), ("GET", b"", []), ("DELETE", b"", []), ("DELETE", b"{}", [b"2"])],
)
async def test_the_length_is_said_where_there_may_be_a_body(
    scene: Scene, method: str, body: bytes, lengths: list[bytes]
) -> None:
    heard = await heard_by_upstream(scene, UpstreamRequest(method, "/x", [], body))
    assert heard.values(b"content-length") == lengths
    assert heard.values(b"transfer-encoding") == []
    assert heard.body == body


@pytest.mark.parametrize(
    ("prefix", "target"),
    [("", b"/x"), ("/", b"/x"), ("/v1", b"/v1/x"), ("/v1/", b"/v1/x"), ("/a/b%2Fc//", b"/a/b%2Fc/x")],
)
async def test_the_prefix_is_joined_without_a_second_slash(scene: Scene, prefix: str, target: bytes) -> None:
    assert (await heard_by_upstream(scene, UpstreamRequest("GET", "/x", [], b""), prefix)).line.split()[1] == target


async def test_what_a_client_says_about_the_hop_does_not_double_ours(scene: Scene) -> None:
    """The rule for headers and the wire together, as the gateway uses them."""
    clients = [
        (b"host", b"evil.example"),
        (b"authorization", b"Bearer sk-wb-client"),
        (b"accept-encoding", b"gzip, br"),
        (b"content-length", b"999"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close, x-mine"),
        (b"x-mine", b"1"),
        (b"expect", b"100-continue"),
        (b"user-agent", b"sdk"),
    ]
    heard = await heard_by_upstream(
        scene, UpstreamRequest("POST", "/responses", towards_upstream().select(clients), b"{}")
    )
    ours = (b"host", b"authorization", b"accept-encoding", b"content-length")
    assert [len(heard.values(name)) for name in ours] == [1] * 4
    assert heard.values(b"authorization") == [b"Bearer " + KEY.encode()]
    assert heard.values(b"accept-encoding") == [b"identity"]
    assert heard.values(b"content-length") == [b"2"]
    assert heard.values(b"user-agent") == [b"sdk"]
    assert all(heard.values(name) == [] for name, _ in clients if name not in (*ours, b"user-agent"))


FORGED = {
    "a header in a value": ("POST", "/x", [(b"a", b"b\r\nx-forged: 1")]),
    "a header in a name": ("POST", "/x", [(b"x-forged: 1\r\na", b"b")]),
    "a bare LF": ("POST", "/x", [(b"a", b"b\nx-forged: 1")]),
    "a bare CR": ("POST", "/x", [(b"a", b"b\rx-forged: 1")]),
    "CR and LF apart": ("POST", "/x", [(b"a", b"b\rc\nx-forged: 1")]),
    "a second request": ("POST", "/x", [(b"a", b"b\r\n\r\nGET /forged HTTP/1.1")]),
    "a header in the target": ("POST", "/x HTTP/1.1\r\nx-forged: 1\r\na: ", []),
    "a space in the target": ("POST", "/x HTTP/1.1", []),
    "a space in the method": ("GET /forged", "/x", []),
}


@pytest.mark.parametrize(("method", "path", "headers"), FORGED.values(), ids=FORGED)
async def test_a_line_end_or_a_space_where_none_may_be_sends_nothing(
    scene: Scene, method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    heard: list[HeardRequest] = []
    wire, server = await scene.wired(canned(OWN, OWN, heard=heard))
    hearing = scene.open(wire, UpstreamRequest(method, path, headers, b""))
    assert hearing.silent
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamUnreachable)
    assert (hearing.status, server.accepted) == (None, 0)
    assert (await scene.ask(wire)).body == b"own"
    assert [request.line for request in heard] == [b"POST /v1/responses HTTP/1.1"]


@pytest.mark.parametrize("path", ["/caf\u00e9", "/\udcff"])
async def test_a_target_beyond_ascii_raises_nothing(scene: Scene, path: str) -> None:
    heard = await heard_by_upstream(scene, UpstreamRequest("GET", path, [], b""))
    assert heard.line.startswith(b"GET /v1/")


async def test_a_refused_call_can_be_cancelled(scene: Scene) -> None:
    wire, _ = await scene.wired(canned())
    hearing = scene.open(wire, UpstreamRequest("GET", "/ ", [], b""))
    hearing.cancel()
    assert hearing.silent


async def test_an_address_of_ipv6(scene: Scene) -> None:
    heard: list[HeardRequest] = []
    server = await scene.serve(canned(OWN, heard=heard), host="::1")
    assert (await scene.ask(scene.wire(f"http://[::1]:{server.port}/v1"))).body == b"own"
    assert heard[0].values(b"host") == [b"[::1]:%d" % server.port]


@pytest.mark.parametrize(
    ("url", "authority", "port", "prefix"),
    [
        ("https://openrouter.ai/api/v1", "openrouter.ai", 443, "/api/v1"),
        ("https://example.org:8443", "example.org:8443", 8443, ""),
        ("http://localhost/", "localhost", 80, ""),
        ("http://[::1]/v1", "[::1]", 80, "/v1"),
    ],
)
def test_a_base_url_is_taken_apart(url: str, authority: str, port: int, prefix: str) -> None:
    target = Target.of(url)
    assert (target.authority, target.origin.port, target.prefix) == (authority, port, prefix)
    assert (target.origin.tls is not None) == url.startswith("https")


async def test_the_key_is_not_in_what_a_wire_or_a_fault_says_of_itself(scene: Scene) -> None:
    wire, _ = await scene.wired(canned(b"nonsense " + KEY.encode()))
    heard = await scene.ask(wire, POST)
    assert heard.fault is not None
    assert KEY not in repr(wire) + str(wire) + repr(heard.fault) + heard.fault.message
