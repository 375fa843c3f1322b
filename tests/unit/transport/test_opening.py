"""Ways to a server: directly, with TLS, and through proxies."""

import asyncio
import ssl

import pytest
import trustme

from lmbridge.transport import CannotConnect, ConnectTimedOut, Proxy, Route

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

    def __init__(self, refuse: bool = False) -> None:
        self.refuse = refuse
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
        there = await asyncio.open_connection(host.decode(), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
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
