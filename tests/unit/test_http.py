"""HTTP as providers use it, against a server that does what it is told, byte by byte."""

import asyncio
import ssl
import weakref
from contextlib import asynccontextmanager

import pytest
import trustme

from lmbridge import (
    AuthenticationFailed,
    ConfigurationError,
    Context,
    ProtocolError,
    ServerError,
    ServerUnreachable,
    TimedOut,
    Timeouts,
)
from lmbridge.http import get_json, post_json, request, url_of
from lmbridge.retries import retry_delay
from lmbridge.runtime import LoopResources

CLOCKS = Timeouts(connect=30.0, first_event=0.0, idle=0.0, total=0.0)


class Server:
    """A loopback server that sends fixed bytes and keeps what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.closed_by_client = asyncio.Event()
        self.url = ""

    async def handle(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self.answer)
        await writer.drain()
        if b"hold" in head:
            await reader.read()
            self.closed_by_client.set()
        writer.close()


@asynccontextmanager
async def serving(answer: bytes):
    server = Server(answer)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


def response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def context_for(make_connection):
    resources = LoopResources(asyncio.get_running_loop())
    yield lambda url, **fields: Context(make_connection(base_url=url, **fields), CLOCKS, resources)
    await resources.close()


async def test_json_goes_and_comes_with_the_key(context_for):
    async with serving(response("200 OK", b'{"a": 1}')) as server:
        context = context_for(server.url + "/v1", api_key="sekret")
        assert await post_json(context, "/v1/x", {"b": [2]}) == {"a": 1}
    sent = server.requests[0]
    assert sent.startswith(b"POST /v1/x HTTP/1.1")
    assert b"Authorization: Bearer sekret" in sent
    assert sent.endswith(b'{"b":[2]}')


async def test_nobody_listens(context_for, unused_tcp_port):
    with pytest.raises(ServerUnreachable, match=r"cannot connect to 127\.0\.0\.1") as caught:
        await get_json(context_for(f"http://127.0.0.1:{unused_tcp_port}"), "/x")
    assert caught.value.sent is False
    assert caught.value.retryable


async def test_the_server_hangs_up_without_an_answer(context_for):
    async with serving(b"") as server:
        with pytest.raises(ServerUnreachable, match="without an answer") as caught:
            await post_json(context_for(server.url), "/x", {})
    assert caught.value.sent is True


async def test_the_answer_is_cut_off(context_for):
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as server:
        with pytest.raises(ProtocolError, match="broke the answer off"):
            await get_json(context_for(server.url), "/x")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"nonsense"])
async def test_the_answer_is_no_json(context_for, body):
    async with serving(response("200 OK", body)) as server:
        with pytest.raises(ProtocolError, match="not JSON"):
            await get_json(context_for(server.url), "/x")


async def test_a_web_page_is_recognised(context_for):
    async with serving(response("200 OK", b"<!doctype html><html>hi</html>")) as server:
        with pytest.raises((ProtocolError, ServerError)) as caught:
            await get_json(context_for(server.url), "/x")
    assert "page" in str(caught.value)


async def test_an_error_in_a_200_is_an_error(context_for):
    body = b'{"error": "Unexpected endpoint or method. (GET /x)"}'
    async with serving(response("200 OK", body)) as server:
        with pytest.raises(ServerError, match="Unexpected endpoint"):
            await get_json(context_for(server.url), "/x")


async def test_a_refused_key_is_an_authentication_error_without_the_key(context_for):
    async with serving(response("401 Unauthorized", b'{"error": {"message": "bad key sekret"}}')) as server:
        with pytest.raises(AuthenticationFailed) as caught:
            await get_json(context_for(server.url, api_key="sekret"), "/x")
    caught.value.locate("c", "p", ["sekret"])
    assert "sekret" not in f"{caught.value} {caught.value!r}"


async def test_a_redirect_is_not_followed_because_it_would_take_the_key_along(context_for):
    async with serving(response("200 OK", b"{}")) as other:
        moved = response("307 Temporary Redirect", b"", f"Location: {other.url}/x")
        async with serving(moved) as server:
            with pytest.raises(ServerError):
                await post_json(context_for(server.url, api_key="sekret"), "/x", {})
    assert other.requests == []


async def test_loopback_never_goes_through_a_proxy(context_for, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_tcp_port}")
    async with serving(response("200 OK", b"{}")) as server:
        assert await get_json(context_for(server.url), "/x") == {}


async def test_elsewhere_goes_through_the_proxy(context_for, monkeypatch):
    async with serving(response("200 OK", b'{"proxied": true}')) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await get_json(context_for("http://lmbridge.invalid:1234"), "/x") == {"proxied": True}
    assert proxy.requests[0].startswith(b"GET http://lmbridge.invalid:1234/x")


async def test_leaving_before_the_end_closes_the_socket(context_for):
    async with serving(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n") as server:
        async with request(context_for(server.url), "GET", "/hold") as answer:
            assert await answer.read(1) == b"x"
        await asyncio.wait_for(server.closed_by_client.wait(), 10)


async def test_cancelling_closes_the_socket(context_for):
    got = asyncio.Event()

    async def read(context):
        async with request(context, "GET", "/hold") as answer:
            async for _ in answer:
                got.set()

    async with serving(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n") as server:
        task = asyncio.create_task(read(context_for(server.url)))
        await asyncio.wait_for(got.wait(), 10)
        task.cancel()
        await asyncio.wait_for(server.closed_by_client.wait(), 10)
        await asyncio.wait({task})


async def test_a_connection_that_does_not_stand_in_time_is_the_connect_clock(context_for):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        context = context_for(f"https://127.0.0.1:{port}")
        context.timeouts = Timeouts(connect=0.2, first_event=0.0, idle=0.0, total=0.0)
        with pytest.raises(TimedOut) as caught:
            await get_json(context, "/x")
    assert caught.value.clock == "connect"


async def test_no_address_names_the_variable(context_for):
    with pytest.raises(ConfigurationError) as caught:
        url_of(context_for(None, name="my-box"), "/x")
    assert "LMBRIDGE_CONNECTIONS__MY_BOX__BASE_URL" in caught.value.hint


async def test_a_server_that_speaks_no_tls_is_no_mystery(context_for):
    async def speak(_, writer):
        writer.write(response("400 Bad Request", b"plain"))
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnreachable, match="no secure connection to") as caught:
            await get_json(context_for(f"https://127.0.0.1:{port}"), "/x")
    assert (caught.value.sent, caught.value.retryable) == (False, False)
    assert "https" in caught.value.hint
    assert "not permitted" not in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_named(context_for):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnreachable, match="certificate") as caught:
            await get_json(context_for(f"https://127.0.0.1:{port}"), "/x")
    assert "unable to get local issuer" in str(caught.value)


@pytest.mark.parametrize("value", ["two\nlines", "nul\0", "wide \u20ac"])
async def test_what_no_header_can_hold_is_refused_and_not_shown(context_for, value):
    async with serving(response("200 OK", b"{}")) as server:
        with pytest.raises(ConfigurationError, match="X-Secret cannot be sent") as caught:
            await get_json(context_for(server.url), "/x", headers={"X-Secret": value})
    assert value not in f"{caught.value} {caught.value!r}"
    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/api/v0/models/a b", "/api/v0/models/a%20b"),
        ("/x\r\nHost: evil", "/x%0D%0AHost:%20evil"),
        ("/x#y", "/x%23y"),
        ("/x%20y?a=b&c=[1]", "/x%20y?a=b&c=[1]"),
        ("/ö", "/%C3%B6"),
    ],
)
async def test_no_name_breaks_out_of_the_request_line(context_for, path, sent):
    async with serving(response("200 OK", b"{}")) as server:
        assert await get_json(context_for(server.url), path) == {}
    assert server.requests[0].startswith(f"GET {sent} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "X Y",
        "X:Y",
        "X-Y\r\nHost",
        "\xd6",
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Expect",
        "Upgrade",
    ],
)
async def test_no_header_changes_where_a_request_ends_or_goes(context_for, name):
    async with serving(response("200 OK", b"{}")) as server:
        with pytest.raises(ConfigurationError, match="cannot be sent"):
            await get_json(context_for(server.url), "/x", headers={name: "5"})
    assert server.requests == []


async def test_a_header_of_the_provider_takes_the_place_of_ours(context_for):
    async with serving(response("200 OK", b"{}")) as server:
        own = {"authorization": "Basic x", "CONTENT-TYPE": "text/x", "accept": "text/y"}
        await post_json(context_for(server.url, api_key="sekret"), "/x", b"abc", headers=own)
    lines = server.requests[0].lower().split(b"\r\n")
    for name in (b"authorization", b"content-type", b"accept"):
        assert [line for line in lines if line.startswith(name + b":")] == [
            b"%b: %b" % (name, own[next(key for key in own if key.lower() == name.decode())].lower().encode())
        ]


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("POST", 0), ("DELETE", 0)])
async def test_a_request_without_a_body_says_so(context_for, method, length):
    async with serving(response("200 OK", b"{}")) as server, request(context_for(server.url), method, "/x"):
        pass
    sent = server.requests[0]
    assert (b"Content-Length: 0\r\n" in sent) is (length == 0)
    assert b"Content-Type" not in sent  # some servers then want one


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "get", "GET / HTTP/1.1\r\nX"])
async def test_a_method_whose_answer_has_another_form_is_refused(context_for, method):
    with pytest.raises(ValueError, match="requests are"):
        await request(context_for("http://127.0.0.1:1"), method, "/x").__aenter__()


async def test_a_zone_is_not_told_to_the_server(context_for, monkeypatch):
    async with serving(response("200 OK", b"{}")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        await get_json(context_for("http://[fe80::1%eth0]:1234"), "/x")
    assert b"Host: [fe80::1]:1234\r\n" in proxy.requests[0]


async def test_a_key_and_a_proxy_that_change_are_seen(context_for, monkeypatch, unused_tcp_port):
    host = "http://lmbridge.invalid:1234"
    async with serving(response("200 OK", b"{}")) as one, serving(response("200 OK", b"{}")) as other:
        for proxy, key in [(one, "first"), (other, "first"), (other, "second")]:
            monkeypatch.setenv("http_proxy", proxy.url)
            await get_json(context_for(host, api_key=key), "/x")
        monkeypatch.setenv("no_proxy", "lmbridge.invalid")
        with pytest.raises(ServerUnreachable):
            await get_json(context_for(host), "/x")
    keys = [[b"Bearer first" in sent for sent in proxy.requests] for proxy in (one, other)]
    assert keys == [[True], [True, False]]


@pytest.mark.parametrize("proxy", ["http://u:se/kret@p:1", "http://[u:sekret@p:1", "socks5://u:sekret@p:1"])
async def test_a_proxy_that_cannot_be_used_is_named_by_its_variable_and_not_shown(
    context_for, monkeypatch, proxy
):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConfigurationError) as caught:
        await get_json(context_for("http://lmbridge.invalid"), "/x")
    assert "HTTP_PROXY" in caught.value.hint
    assert "kret" not in f"{caught.value} {caught.value!r}"


async def test_a_proxy_that_is_not_there_is_named_without_its_password(
    context_for, monkeypatch, unused_tcp_port
):
    monkeypatch.setenv("http_proxy", f"http://user:sekret@127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ServerUnreachable, match=f"through the proxy 127.0.0.1:{unused_tcp_port}") as caught:
        await get_json(context_for("http://lmbridge.invalid"), "/x")
    assert "no_proxy" in caught.value.hint
    assert "sekret" not in f"{caught.value} {caught.value!r}"


async def test_a_proxy_that_hangs_up_is_no_missing_host(context_for, monkeypatch):
    async with serving(b"") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ServerUnreachable, match="closed the connection") as caught:
            await post_json(context_for("https://lmbridge.invalid"), "/x", {})
    assert caught.value.sent is False


async def test_a_body_is_let_go_once_it_is_sent(context_for):
    class Body(dict):
        pass

    body = Body(a=1)
    there = weakref.ref(body)
    async with serving(response("200 OK", b"{}")) as server:
        asked = request(context_for(server.url), "POST", "/x", body=body)
        del body
        async with asked:
            assert there() is None


def test_refused_certificates_are_not_tried_again():
    assert retry_delay(ServerUnreachable("x", sent=False, retryable=False), 0) is None
    assert retry_delay(ServerUnreachable("x", sent=False), 0) == 0.25
    assert retry_delay(ServerUnreachable("x", sent=False), 2) is None
