"""The fault server answers as it is told, fails where it is told, and tells what it has seen."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading

import aiohttp
import pytest

import lmbridge.testing
from lmbridge.testing import Fault, FaultServer, Reply, frame

WORDS = Reply.sse({"n": 1, "text": "alpha"}, {"n": 2, "text": "bravo"}, "[DONE]")


@pytest.fixture
def server():
    with FaultServer() as running:
        running.on("POST /chat", WORDS)
        yield running


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(client, server, path="/chat", **fields) -> tuple[int, bytes]:
    async with client.post(server.url + path, **fields) as response:
        return response.status, await response.read()


async def until_error(client, server) -> tuple[bytes, BaseException | None]:
    got = b""
    try:
        async with client.post(server.url + "/chat", json={}) as response:
            async for block in response.content.iter_any():
                got += block
    except aiohttp.ClientError as exc:
        return got, exc
    return got, None


def raw(server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), timeout=30) as sock:
        sock.sendall(request)
        got = b""
        while block := sock.recv(65536):
            got += block
        return got


async def test_it_answers_and_records_what_was_asked(server, client):
    status, body = await ask(client, server, "/chat?x=1", json={"q": "ü"}, headers={"X-Key": "hidden-1"})
    assert status == 200
    assert body.endswith(b'"text": "bravo"}\n\ndata: [DONE]\n\n')
    (asked,) = server.requests
    assert (asked.route, asked.path, asked.json) == ("POST /chat", "/chat?x=1", {"q": "ü"})
    assert asked.headers["x-key"] == "hidden-1"
    assert "hidden" not in repr(asked)
    await server.until(lambda: asked.answered)
    assert bytes(asked.sent) == body


async def test_answers_come_in_order_and_the_last_one_again(server, client):
    server.on("POST /two", Reply.json(1), Reply.json(2, status=503, headers={"Retry-After": "7"}))
    assert [await ask(client, server, "/two") for _ in range(3)] == [(200, b"1"), (503, b"2"), (503, b"2")]
    async with client.post(server.url + "/two") as response:
        assert response.headers["Retry-After"] == "7"


async def test_the_newest_route_counts_and_a_function_sees_the_request(server, client):
    server.on("*", lambda asked: Reply.json({"you": asked.json}))
    assert json.loads((await ask(client, server, json=[1]))[1]) == {"you": [1]}


async def test_what_is_not_scripted_is_not_found(server, client):
    assert (await ask(client, server, "/other"))[0] == 404
    with pytest.raises(ValueError, match="no answer"):
        server.on("POST /x")


async def test_a_connection_serves_many_requests(server, client):
    await ask(client, server)
    await ask(client, server)
    assert server.open == 1


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_every_framing_is_whole(server, client, framing):
    server.on("POST /chat", WORDS.framed(framing))
    assert (await ask(client, server))[1] == b"".join(WORDS.blocks)


async def test_lines_of_json_and_texts(server, client):
    server.on("POST /a", Reply.ndjson({"a": "ü"}, b"raw\n")).on("POST /b", Reply.text("<p>", status=502))
    assert (await ask(client, server, "/a"))[1] == '{"a": "ü"}\nraw\n'.encode()
    assert await ask(client, server, "/b") == (502, b"<p>")


def test_named_events_and_a_chunked_request(server):
    server.on("POST /n", Reply.sse(("start", {"x": 1})).framed("close"))
    got = raw(
        server,
        b"POST /n HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    assert got.endswith(b'event: start\ndata: {"x": 1}\n\n')
    assert server.requests[0].body == b"abcde"


def test_bytes_that_are_no_http(server):
    server.on("GET /", Reply.raw(b"220 mail ready\r\n"))
    assert raw(server, b"GET / HTTP/1.1\r\n\r\n") == b"220 mail ready\r\n"


@pytest.mark.parametrize("at", [b"alp", 20, "head"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_drop_in_the_body(server, client, at, reset):
    server.fail(Fault.drop(at=at, reset=reset))
    got, error = await until_error(client, server)
    assert isinstance(error, aiohttp.ClientError)
    if not reset:  # a reset may overtake what was sent
        whole = b"".join(WORDS.blocks)
        wanted = whole[: whole.index(b"alp") + 3] if at == b"alp" else whole[: at if at != "head" else 0]
        assert got == wanted


@pytest.mark.parametrize("at", ["accept", "request"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_drop_before_the_answer(server, client, at, reset):
    server.fail(Fault.drop(at=at, reset=reset))
    got, error = await until_error(client, server)
    assert got == b""
    assert isinstance(error, aiohttp.ClientError)


async def test_a_place_is_found_across_blocks(server, client):
    server.block_size = 1
    server.fail(Fault.drop(at=b"bravo"))
    got, error = await until_error(client, server)
    assert got.endswith(b'"bravo')
    assert error is not None


async def test_an_end_that_looks_whole(server, client):
    server.fail(Fault.end(at=b'"alpha"}\n\n'))
    assert await until_error(client, server) == (WORDS.blocks[0], None)
    server.fail(None)
    assert await until_error(client, server) == (b"".join(WORDS.blocks), None)


async def test_garbage_comes_once_in_the_middle(server, client):
    server.fail(Fault.garbage(b"\xff{{", at=b"alpha"))
    got, error = await until_error(client, server)
    assert error is None
    assert got == b"".join(WORDS.blocks).replace(b"alpha", b"alpha\xff{{")


async def test_a_flood_lasts_until_the_client_leaves(server, client):
    server.fail(Fault.flood(b": still here\n\n", at="head"))
    async with client.post(server.url + "/chat") as response:
        got = await response.content.readexactly(1400)
    assert got == b": still here\n\n" * 100
    (asked,) = server.requests
    await server.until(lambda: asked.left)


@pytest.mark.parametrize("at", ["request", "head", b"alpha", 5])
async def test_a_hang_can_be_released(server, client, at):
    server.fail(Fault.hang(at=at))
    asking = asyncio.ensure_future(ask(client, server))
    await server.until(lambda: server.hanging == 1)
    assert not asking.done()
    server.release()
    assert (await asking)[1] == b"".join(WORDS.blocks)
    assert server.hanging == 0


async def test_a_slow_server_hangs_at_one_place_after_the_other(server, client):
    places = [b"alpha", b'"}', 60]
    asking = asyncio.ensure_future(ask(client, server))
    server.fail(Fault.hang(at=places[0]))
    for hung, (place, then) in enumerate(zip(places, [*places[1:], None], strict=True), 1):
        await server.until(lambda hung=hung: server.hung == hung)
        sent = bytes(server.requests[0].sent)
        assert len(sent) == 60 if place == 60 else sent.endswith(place)
        server.release(then=None if then is None else Fault.hang(at=then))
    assert (await asking)[1] == b"".join(WORDS.blocks)


async def test_a_request_that_is_never_read(server, client):
    server.fail(Fault.hang(at="accept"))
    asking = asyncio.ensure_future(ask(client, server))
    await server.until(lambda: server.hanging == 1)
    assert server.requests == ()
    server.release()
    assert (await asking)[0] == 200


async def test_a_client_that_leaves_while_it_hangs_is_noticed(server, client):
    server.fail(Fault.hang(at=b"alpha"))
    async with client.post(server.url + "/chat") as response:
        await response.content.readuntil(b"alpha")
        (asked,) = server.requests
        assert not asked.left
    await server.until(lambda: asked.left and server.open == 0)
    assert (server.hanging, asked.answered) == (0, False)


async def test_a_fault_concerns_its_route_only(server, client):
    server.on("GET /models", Reply.json([]))
    server.fail(Fault.drop(route="POST *"))
    async with client.get(server.url + "/models") as response:
        assert response.status == 200
    assert (await until_error(client, server))[1] is not None


async def test_a_closed_port_refuses(server, client):
    await server.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(client, server)


async def test_a_port_that_nobody_accepts_at(server):
    if not await server.stall():
        pytest.skip("this system accepts connections by itself")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await session.post(server.url, timeout=aiohttp.ClientTimeout(sock_connect=0.2))


async def test_a_wait_in_vain_says_what_was_seen(server, client):
    await ask(client, server)
    await server.until(lambda: server.requests[0].answered)
    with pytest.raises(TimeoutError, match=r"1 requests, the last: POST /chat \(answered\)"):
        await server.until(lambda: False, 0.05)


def test_it_can_be_waited_for_without_a_loop(server):
    with pytest.raises(TimeoutError, match="0 answers hang"):
        server.wait_for(lambda: False, 0.05)
    with pytest.raises(ZeroDivisionError):
        server.wait_for(lambda: 1 / 0)
    with socket.create_connection(server.address.split(":")) as sock:
        server.wait_for(lambda: server.open == 1)
        sock.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        assert server.wait_for(lambda: server.find("GET *"))[0].route == "GET /x"
        assert server.find("POST *") == ()
    server.wait_for(lambda: server.open == 0)
    server.forget()
    assert server.requests == ()


# -- WebSocket ---------------------------------------------------------------------------------------------


async def echo(socket) -> None:
    while True:
        message = await socket.receive()
        await socket.send(message)


async def test_a_script_talks_over_a_websocket(server, client):
    server.on("GET /ws", Reply.websocket(echo))
    large = "ü" * 70_000
    async with client.ws_connect(server.url + "/ws") as ws:
        for text in ("alpha", "b" * 300, large):
            await ws.send_str(text)
            assert await ws.receive_str(timeout=30) == text
        await ws.send_bytes(b"\x00\x01")
        assert await ws.receive_bytes(timeout=30) == b"\x00\x01"
        await ws.ping()
    (asked,) = server.requests
    assert asked.messages == ["alpha", "b" * 300, large, b"\x00\x01"]
    await server.until(lambda: asked.left)


async def test_faults_happen_to_a_websocket(server, client):
    server.on("GET /ws", Reply.websocket(echo))
    server.fail(Fault.garbage(frame(b"{{{"), at=frame(b"one")))
    async with client.ws_connect(server.url + "/ws") as ws:
        await ws.send_str("one")
        assert [await ws.receive_str(timeout=30) for _ in range(2)] == ["one", "{{{"]
        server.fail(Fault.hang())
        await ws.send_str("two")
        await server.until(lambda: server.hanging == 1)
        server.release()
        assert await ws.receive_str(timeout=30) == "two"
        server.fail(Fault.drop(reset=True))
        await ws.send_str("three")
        assert (await ws.receive(timeout=30)).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_a_script_sends_json_pings_and_closes(server, client):
    async def script(socket) -> None:
        assert await socket.receive_json() == {"a": 1}
        await socket.ping(b"x")
        await socket.send({"b": 2})
        await socket.close(4000)

    server.on("GET /ws", Reply.websocket(script))
    async with client.ws_connect(server.url + "/ws") as ws:
        await ws.send_json({"a": 1})
        assert await ws.receive_json(timeout=30) == {"b": 2}
        await ws.receive(timeout=30)
        assert ws.close_code == 4000


@pytest.mark.parametrize("at", ["request", "head", b"one"])
async def test_a_client_that_leaves_a_silent_websocket_is_noticed(server, client, at):
    server.on("GET /ws", Reply.websocket(echo))
    server.fail(Fault.hang(at=at))

    async def talk() -> None:
        ws = await client.ws_connect(server.url + "/ws", timeout=aiohttp.ClientWSTimeout(ws_close=0.05))
        async with ws:
            await ws.send_str("one")
            await asyncio.Event().wait()

    task = asyncio.ensure_future(talk())
    await server.until(lambda: server.hanging)
    task.cancel()
    await server.until(lambda: server.requests[0].left)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handshake_can_be_refused(server, client):
    server.on("GET /ws", Reply.json({}, status=401))
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await client.ws_connect(server.url + "/ws")


# -- in front of another server ----------------------------------------------------------------------------


@pytest.fixture
def front(server):
    with FaultServer(server.url + "/") as running:
        yield running


async def test_it_passes_on_what_it_has_no_reply_for(server, front, client):
    front.on("GET /mine", Reply.json("mine"))
    status, body = await ask(client, front, json={"q": 1}, headers={"X-Key": "k"})
    assert (status, body) == (200, b"".join(WORDS.blocks))
    assert server.requests[0].json == {"q": 1}
    assert server.requests[0].headers["x-key"] == "k"
    async with client.get(front.url + "/mine") as response:
        assert await response.json() == "mine"
    assert len(server.requests) == 1


async def test_faults_happen_to_what_is_passed_on(server, front, client):
    front.fail(Fault.end(at=b"alpha"))
    got, error = await until_error(client, front)
    assert got.endswith(b"alpha")
    assert error is None
    front.fail(Fault.hang(at=b"alpha"))
    async with client.post(front.url + "/chat"):
        await front.until(lambda: front.hanging)
    await front.until(lambda: front.requests[-1].left)


async def test_it_passes_on_a_websocket(server, front, client):
    server.on("GET /ws", Reply.websocket(echo))
    async with client.ws_connect(front.url + "/ws", compress=15) as ws:
        await ws.send_str("alpha")
        assert await ws.receive_str(timeout=30) == "alpha"
        assert front.requests[0].messages == ["alpha"]
        front.fail(Fault.drop(at=b"bravo"))
        await ws.send_str("bravo")
        assert await ws.receive_str(timeout=30) == "bravo"
        assert (await ws.receive(timeout=30)).type is not aiohttp.WSMsgType.TEXT
    await server.until(lambda: server.requests[0].left)


async def test_a_working_server_that_is_gone_breaks_the_connection(server, front, client):
    await server.refuse()
    assert isinstance((await until_error(client, front))[1], aiohttp.ClientError)


# -- life --------------------------------------------------------------------------------------------------


async def test_it_is_an_asynchronous_context_manager_and_leaves_nothing(client):
    before = threading.active_count()
    async with FaultServer() as server:
        server.fail(Fault.hang())
        asking = asyncio.ensure_future(ask(client, server))
        await server.until(lambda: server.hanging)
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert "lmbridge fault server" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1  # the loop's own executor


def test_what_a_script_raises_is_raised_on_leaving():
    def wrong(asked):
        raise LookupError("no such turn")

    def use() -> None:
        with FaultServer() as server:
            raw(server.on("GET /", wrong), b"GET / HTTP/1.1\r\n\r\n")

    with pytest.raises(LookupError, match="no such turn"):
        use()


def test_it_keeps_running_in_front_of_a_blocked_client(server):
    """It has a thread of its own, so a client that blocks its loop does not block the server."""
    assert raw(server, b"POST /chat HTTP/1.1\r\nConnection: close\r\n\r\n").endswith(b"0\r\n\r\n")


def test_it_is_a_fixture(fault_server):
    fault_server.on("GET /", Reply.json("here"))
    assert raw(fault_server, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").endswith(b'"here"')


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_pytest_pays_for_the_kit_only_where_it_is_used():
    """The plugin is loaded by every pytest of an environment that has lmbridge."""
    ours = "[name for name in sys.modules if name.startswith('lmbridge')]"
    told = python(f"import sys, lmbridge.testing.pytest_plugin; print(*sorted({ours}))")
    assert told.split() == ["lmbridge", "lmbridge.testing", "lmbridge.testing.pytest_plugin"]


def test_only_the_conformance_tests_need_pytest():
    told = python("import sys; from lmbridge.testing import FaultServer; print('pytest' in sys.modules)")
    assert told == "False"
    with pytest.raises(AttributeError, match="no attribute 'Faults'"):
        lmbridge.testing.Faults  # noqa: B018 - the access is the test
