"""Ways to a server: directly, with TLS, and through proxies."""

import asyncio
import errno
import gc
import socket
import ssl

import pytest
import trustme

from lmbridge.transport import CannotConnect, ConnectTimedOut, Proxy, Route
from lmbridge.transport.racing import connected_socket

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path):
    """Let the machine trust the authority."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


@pytest.fixture
def trusted_tls(tls, trusted):
    """TLS of a server that the machine trusts."""
    return tls


async def relay(reader, writer):
    try:
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Forwarding:
    """An HTTP proxy for CONNECT, or one that refuses."""

    def __init__(self) -> None:
        self.refuse = False
        self.says = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.heads: list[bytes] = []
        self._tasks: set[asyncio.Task] = set()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split(b" ")[1].rpartition(b":")
        try:
            there = await asyncio.open_connection(host.decode(), int(port))
        except ConnectionError:
            writer.close()
            return
        writer.write(self.says)
        await asyncio.gather(relay(reader, there[1]), relay(there[0], writer))


@pytest.fixture
async def proxy():
    made = Forwarding()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://us%65r:pa%3Ass@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


async def test_tls_with_a_certificate_that_is_trusted(serving, get, tls, trusted):
    async with serving(OK, ssl=tls) as server:
        for _ in range(2):
            assert (await get(server.route))[2] == b"ok"
    assert server.connections == 1


async def test_tls_with_a_certificate_that_is_not(serving, get, tls):
    async with serving(OK, ssl=tls) as server:
        with pytest.raises(CannotConnect) as caught:
            await get(server.route)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_tls_where_none_is_spoken(get):
    async def speak(_, writer):
        writer.write(OK)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        with pytest.raises(CannotConnect) as caught:
            await get(Route("127.0.0.1", server.sockets[0].getsockname()[1], secure=True))
    assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_nobody_listens(get, unused_tcp_port):
    with pytest.raises(CannotConnect) as caught:
        await get(Route("127.0.0.1", unused_tcp_port))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "lmbridge.invalid"])
async def test_a_host_that_does_not_exist(get, host):
    with pytest.raises(CannotConnect) as caught:
        await get(Route(host, 80))
    assert isinstance(caught.value.__cause__, OSError | UnicodeError)


async def test_a_server_that_takes_the_connection_and_says_no_word_of_tls(pool):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        route = Route("127.0.0.1", server.sockets[0].getsockname()[1], secure=True)
        with pytest.raises(ConnectTimedOut):
            await pool.take(route, 0.2)


async def test_tls_through_a_proxy(serving, get, tls, trusted, proxy):
    async with serving(OK, ssl=tls) as server:
        route = Route("127.0.0.1", server.route.port, secure=True, proxy=Proxy.parse(proxy.url))
        for _ in range(2):
            assert (await get(route))[2] == b"ok"
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n" in head  # user:pa:ss


async def test_a_proxy_that_refuses_is_told_with_its_status(get, proxy):
    proxy.refuse = True
    with pytest.raises(CannotConnect, match="407"):
        await get(Route("192.0.2.1", 443, secure=True, proxy=Proxy.parse(proxy.url)))


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "http://", ""])
def test_a_proxy_of_another_kind_is_refused(address):
    with pytest.raises(ValueError, match="only http and https"):
        Proxy.parse(address)


@pytest.mark.parametrize("address", ["http://u:se/kret@p:1", "http://[u:sekret@p:1", "http://u@p:sekret"])
def test_a_proxy_that_cannot_be_read_is_not_shown(address):
    with pytest.raises(ValueError, match="cannot be read") as caught:
        Proxy.parse(address)
    assert "se" not in str(caught.value).replace("the address of the proxy", "")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("address", "netloc", "secure"),
    [
        ("proxy.example", "proxy.example:80", False),
        ("proxy.example:3128", "proxy.example:3128", False),
        ("u:p@127.0.0.1:8080", "127.0.0.1:8080", False),
        ("https://[::1]", "[::1]:443", True),
        ("HTTP://Proxy:1/", "proxy:1", False),
    ],
)
def test_a_proxy_may_be_written_in_any_usual_form(address, netloc, secure):
    proxy = Proxy.parse(address)
    assert (proxy.netloc, proxy.secure) == (netloc, secure)


def test_a_password_is_not_shown():
    proxy = Proxy.parse("http://us%65r:sekret@p:1")
    route = Route("h", 1, proxy=proxy)
    assert proxy.authorization == "Basic dXNlcjpzZWtyZXQ="
    assert "sekret" not in f"{proxy} {route}"
    assert proxy.authorization.removeprefix("Basic ") not in f"{proxy!r} {route!r}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_name_and_a_number_lead_to_the_same_server(serving, get, host):
    async with serving(OK) as server:
        assert (await get(Route(host, server.route.port)))[2] == b"ok"


@pytest.mark.parametrize("status", [b"201 Created", b"204 No Content"])
async def test_a_proxy_may_agree_in_any_words(serving, get, trusted_tls, proxy, status):
    proxy.says = b"HTTP/1.1 " + status + b"\r\n\r\n"
    async with serving(OK, ssl=trusted_tls) as server:
        route = Route("127.0.0.1", server.route.port, secure=True, proxy=Proxy.parse(proxy.url))
        assert (await get(route))[2] == b"ok"


async def test_tls_through_a_proxy_that_is_spoken_to_with_tls(serving, get, pool, trusted_tls):
    made = Forwarding()
    async with (
        serving(OK, ssl=trusted_tls) as server,
        await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=trusted_tls) as listening,
    ):
        through = Proxy("127.0.0.1", listening.sockets[0].getsockname()[1], secure=True)
        for _ in range(2):
            assert (await get(Route("127.0.0.1", server.route.port, True, through)))[2] == b"ok"
        await pool.close()  # from Python 3.12 on a server waits for its connections
    assert len(made.heads) == 1


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n\r\nno TLS at all"])
async def test_a_proxy_that_is_none_cannot_be_connected_through(get, words):
    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as listening:
        through = Proxy("127.0.0.1", listening.sockets[0].getsockname()[1])
        with pytest.raises(CannotConnect) as caught:
            await get(Route("192.0.2.1", 443, True, through))
    assert str(caught.value)


@pytest.fixture
def addresses(monkeypatch):
    """Let a host have these addresses: ports of this machine."""

    def set_addresses(*ports: int) -> None:
        async def find(host, port, **_):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in ports]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find, raising=False)

    return set_addresses


async def test_an_address_that_refuses_gives_way_to_the_next(serving, get, addresses, unused_tcp_port):
    async with serving(OK) as server:
        addresses(unused_tcp_port, unused_tcp_port, server.route.port)
        assert (await get(Route("several.example", 80)))[2] == b"ok"


async def test_an_address_that_is_slow_is_overtaken(serving, get, addresses, monkeypatch):
    loop, given_up = asyncio.get_running_loop(), asyncio.Event()
    connect = loop.sock_connect

    async def slow(sock, address):
        if address[1] != 1:
            return await connect(sock, address)
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    monkeypatch.setattr(loop, "sock_connect", slow, raising=False)
    async with serving(OK) as server:
        addresses(1, server.route.port)
        assert (await get(Route("several.example", 80)))[2] == b"ok"
        assert given_up.is_set()


async def test_a_host_that_nobody_listens_at(get, addresses, unused_tcp_port):
    addresses(unused_tcp_port, unused_tcp_port)
    with pytest.raises(CannotConnect) as caught:
        await get(Route("several.example", 80))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    addresses()
    with pytest.raises(CannotConnect, match="no address"):
        await get(Route("several.example", 80))


async def test_the_error_that_says_most_is_told(get, addresses, monkeypatch):
    async def fail(_, address):
        raise OSError(errno.ENETUNREACH if address[1] == 1 else errno.ECONNREFUSED, "x")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fail, raising=False)
    addresses(1, 2)
    with pytest.raises(CannotConnect) as caught:
        await get(Route("several.example", 80))
    assert caught.value.__cause__.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("winners", [1, 2])
async def test_a_call_that_is_cancelled_as_an_address_answers_leaves_no_socket(
    serving, pool, addresses, monkeypatch, winners
):
    loop, sockets = asyncio.get_running_loop(), []
    together = asyncio.Event()

    async def connect_and_cancel(sock, address):
        sockets.append(sock)
        if len(sockets) < winners:
            await together.wait()
        together.set()
        task.cancel()

    monkeypatch.setattr(loop, "sock_connect", connect_and_cancel, raising=False)
    addresses(*range(1, winners + 1))
    task = asyncio.create_task(pool.take(Route("several.example", 80), 10))
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    await asyncio.sleep(0)
    assert [sock.fileno() for sock in sockets] == [-1] * winners
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_addresses_that_answer_at_once_leave_one_socket(addresses, monkeypatch):
    sockets, together = [], asyncio.Event()

    async def at_once(sock, _):
        sockets.append(sock)
        if len(sockets) == 2:
            together.set()
        await together.wait()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "sock_connect", at_once, raising=False)
    addresses(1, 2)
    with await connected_socket("several.example", 80, loop) as won:
        await asyncio.sleep(0)
        assert sorted(sock is won for sock in sockets) == [False, True]
        assert [sock.fileno() for sock in sockets if sock is not won] == [-1]


async def test_the_system_s_own_time_limit_is_not_ours(get, addresses, monkeypatch):
    async def fail(_, __):
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fail, raising=False)
    addresses(1)
    with pytest.raises(CannotConnect) as caught:
        await get(Route("several.example", 80))
    assert type(caught.value) is CannotConnect


@pytest.mark.parametrize("how", ["plain", "name", "tls", "proxy"])
async def test_a_call_can_be_cancelled_at_every_step_of_opening(serving, pool, trusted_tls, proxy, how):
    """What is left open would be a warning, and so an error of this test."""
    secure = {"ssl": trusted_tls} if how in {"tls", "proxy"} else {}
    async with serving(OK, **secure) as server:
        through = Proxy.parse(proxy.url) if how == "proxy" else None
        host = "localhost" if how == "name" else "127.0.0.1"
        route = Route(host, server.route.port, bool(secure), through)
        if secure:
            await pool._tls_context()  # in a thread
        ended = set()
        for steps in range(40):
            task = asyncio.create_task(pool.take(route, 30))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            ended.add(task.cancelled())
            if not task.cancelled():
                task.result().abort()
        assert True in ended
        gc.collect()


async def test_a_body_until_the_end_of_a_connection_with_tls(serving, get, tls, trusted):
    async def old(_, writer):
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 300_000)
        writer.close()

    async with serving(old, ssl=tls) as server:
        assert len((await get(server.route))[2]) == 300_000


async def test_a_slow_reader_gets_all_that_came_with_tls_before_the_end(serving, pool, tls, trusted):
    size = 4 * 1024 * 1024 + 12_345

    async def pour(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        writer.close()

    async with serving(pour, ssl=tls) as server:
        exchange = pool.exchange(server.route, b"GET / HTTP/1.1\r\n\r\n", None, seconds=30)
        async with exchange as response:
            got = 0
            while not response.at_end():
                for _ in range(20):  # so much may come meanwhile as will
                    await asyncio.sleep(0)
                got += len(await asyncio.wait_for(response.block(), 30))
            assert got == size
