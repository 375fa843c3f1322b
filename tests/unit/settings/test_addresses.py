import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmbridge.errors import ConfigurationError
from lmbridge.settings import Connection, normalise_address

NORMAL = re.compile(r"https?://(\[[0-9a-f:.]+(%[\w.~-]+)?\]|[a-z0-9._-]+)(:\d{1,5})?(/[^/?#@\s\\]+)*")


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("localhost", "http://localhost"),
        ("LOCALHOST:1234/", "http://localhost:1234"),
        ("  http://127.0.0.1:1234\n", "http://127.0.0.1:1234"),
        ("HTTP://Box:1234", "http://box:1234"),
        ("//box:1234", "http://box:1234"),
        ("my_box:1234", "http://my_box:1234"),
        ("http://box:80", "http://box"),
        ("https://box:443/", "https://box"),
        ("http://box:443", "http://box:443"),
        ("ws://box:1234", "http://box:1234"),
        ("wss://box", "https://box"),
        ("http://box:1234/v1", "http://box:1234"),
        ("http://box:1234/V1/", "http://box:1234"),
        ("http://box:1234//v1//", "http://box:1234"),
        ("http://box:1234/v1/v1", "http://box:1234"),
        ("http://box:1234/api/v1", "http://box:1234"),
        ("http://box:1234/api/v1/chat", "http://box:1234"),
        ("http://box:1234/api/v0/models", "http://box:1234"),
        ("http://box:1234/v1/chat/completions", "http://box:1234"),
        ("http://box:1234/v1/models/", "http://box:1234"),
        ("http://box:1234/api", "http://box:1234/api"),
        ("http://box:1234/v0", "http://box:1234/v0"),
        ("http://box:1234/xv1", "http://box:1234/xv1"),
        ("http://box:1234/models", "http://box:1234/models"),
        ("https://host.example/openai/v1", "https://host.example/openai"),
        ("https://host.example/a%20b/v1", "https://host.example/a%20b"),
        ("https://host.example/ä", "https://host.example/%C3%A4"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api"),
        ("https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api"),
        ("https://lm.example.com:8443/api/v1", "https://lm.example.com:8443"),
        ("https://192.168.1.5/api/v1", "https://192.168.1.5"),
        ("https://box.local/api/v1", "https://box.local"),
        ("lm.example.com/v1", "https://lm.example.com"),
        ("lm.example.com:443", "https://lm.example.com"),
        ("box:443", "https://box"),
        ("lm.example.com:1234", "http://lm.example.com:1234"),
        ("box.local", "http://box.local"),
        ("host.docker.internal", "http://host.docker.internal"),
        ("8.8.8.8", "http://8.8.8.8"),
        ("::1", "http://[::1]"),
        ("[::1]", "http://[::1]"),
        ("[::1]:1234/v1", "http://[::1]:1234"),
        ("http://[0:0:0:0:0:0:0:1]:1234", "http://[::1]:1234"),
        ("FE80::1%eth0", "http://[fe80::1%eth0]"),
        ("http://[fe80::1%25eth0]:1234", "http://[fe80::1%eth0]:1234"),
        ("http://[::]:1234", "http://[::1]:1234"),
        ("http://[::FFFF:7F00:1]:1234", "http://[::ffff:127.0.0.1]:1234"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("example.com.", "https://example.com"),
        ("bücher.example", "https://xn--bcher-kva.example"),
        ("http://BÜCHER.example:1234", "http://xn--bcher-kva.example:1234"),
        ("http://\uff11\uff12\uff17.0.0.1:1234", "http://127.0.0.1:1234"),
    ],
)
def test_usual_forms_become_the_normal_form(written, normal):
    assert normalise_address(written) == normal


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("file:///etc/passwd", "only http"),
        ("file:/etc/passwd", "scheme"),
        ("ftp://box", "only http"),
        ("javascript://box", "only http"),
        ("http:box", "scheme"),
        ("http:/box", "scheme"),
        ("http://", "no host"),
        ("http:///v1", "no host"),
        (":1234", "no host"),
        ("1234", "number"),
        ("http://box:", "port"),
        ("box:abc", "port"),
        ("box:0", "port"),
        ("box:65536", "port"),
        ("box:-1", "port"),
        ("box:\uff11\uff12", "port"),
        ("box:1234567890123", "port"),
        ("http://box?x=1", "query"),
        ("http://box/#x", "fragment"),
        ("http://my box:1234", "space"),
        ("http://box\t:1234", "invisible"),
        ("http://box:1234/\r\nX-Header: 1", "invisible"),
        ("http://box\x00", "invisible"),
        ("http://bo\u200bx", "invisible"),
        ("http://bo\ud800x", "invisible"),
        ("http:\\\\box", "backslash"),
        ("::1:1234", "brackets"),
        ("[::1", "not complete"),
        ("[::1]1234", "not complete"),
        ("[box]:1234", "not complete"),
        ("1:2:3", "IPv6"),
        ("fe80::1%", "zone"),
        ("256.1.1.1", "number"),
        ("127.1", "number"),
        ("0x7f000001", "number"),
        ("2130706433", "number"),
        ("box..example", "host name"),
        ("-box:1234", "host name"),
        ("b%6fx:1234", "host name"),
        ("a" * 64 + ".example", "host name"),
        ("straße.example", "ASCII"),
        ("ä" * 300, "ASCII"),
        ("http://box/../x", "path"),
        ("http://box/%2e%2E/x", "path"),
        ("http://box/%zz", "path"),
        ("http://box/{x}", None),
        ("x" * 3000, "too long"),
    ],
)
def test_other_texts_are_refused_with_a_reason(written, says):
    if says is None:  # quoted, not refused
        assert normalise_address(written) == "http://box/%7Bx%7D"
        return
    with pytest.raises(ConfigurationError) as caught:
        normalise_address(written)
    assert says in str(caught.value)
    assert caught.value.hint or says == "empty"


@pytest.mark.parametrize(
    "written",
    ["http://user:hunter2@box:1234", "user:hunter2@box", "http://hunter2@box", "http://u:hunter2/x@box/"],
)
def test_credentials_are_refused_and_never_shown(written):
    with pytest.raises(ConfigurationError, match="API_KEY") as caught:
        normalise_address(written)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


def test_no_text_that_is_refused_is_repeated():
    with pytest.raises(ConfigurationError) as caught:
        normalise_address("https://box/?api_key=hunter2")
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


def test_what_is_no_text_is_refused():
    with pytest.raises(ConfigurationError, match="text"):
        normalise_address(1234)  # type: ignore[arg-type]


@given(st.text(max_size=200))
def test_any_text_is_normalised_or_refused(text):
    try:
        address = normalise_address(text)
    except ConfigurationError:
        return
    assert NORMAL.fullmatch(address)


@given(st.text(alphabet="htps:/wv10api.[]%@-_ab\\?#:é", max_size=60))
def test_normalising_is_idempotent(text):
    try:
        address = normalise_address(text)
    except ConfigurationError:
        return
    assert normalise_address(address) == address
    connection = Connection(name="x", provider="x", base_url=address)
    assert connection.base_url == address
    assert 1 <= connection.port <= 65535
    assert connection.netloc.endswith(f":{connection.port}")


def test_an_address_that_grows_too_long_by_being_written_in_ascii_is_refused():
    assert len(normalise_address("http://h/" + "é" * 300)) == 9 + 300 * 6
    with pytest.raises(ConfigurationError, match="too long"):
        normalise_address("http://h/" + "é" * 400)


@given(st.sampled_from(["a", "1.", "[", ":", "%", "/v1", "/api", "ä", "é.", "xn--", "//", "::", "@"]))
def test_repetition_is_never_slow(part):
    # Bounded by the test's timeout: anything worse than linear at this length would pass it.
    for count in (100, 2000, 200_000):
        try:
            normalise_address("http://" + part * count)
        except ConfigurationError:
            continue


@pytest.mark.parametrize(
    "address",
    ["http://[fe80::1%eth0]:1234", "http://[::1]:1234", "http://my_box:1", "https://xn--bcher-kva.example"],
)
def test_the_http_library_agrees_on_host_and_port(address):
    from yarl import URL

    url, connection = URL(address), Connection(name="x", provider="x", base_url=address)
    assert (url.host, url.port) == (connection.host, connection.port) or url.raw_host == connection.host


@pytest.mark.parametrize(
    ("address", "netloc", "loopback", "local"),
    [
        ("http://localhost", "localhost:80", True, True),
        ("http://x.localhost:1", "x.localhost:1", True, True),
        ("http://127.0.0.2:1234", "127.0.0.2:1234", True, True),
        ("http://[::1]", "[::1]:80", True, True),
        ("http://[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", True, True),
        ("http://192.168.1.5:1234", "192.168.1.5:1234", False, True),
        ("http://[::ffff:192.168.1.5]:1", "[::ffff:192.168.1.5]:1", False, True),
        ("http://169.254.1.1:1", "169.254.1.1:1", False, True),
        ("http://[fe80::1%eth0]:1", "[fe80::1%eth0]:1", False, True),
        ("http://box:1", "box:1", False, True),
        ("http://box.local:1", "box.local:1", False, True),
        ("https://api.example.com/x", "api.example.com:443", False, False),
        ("https://localhost.example.com", "localhost.example.com:443", False, False),
        ("http://8.8.8.8", "8.8.8.8:80", False, False),
    ],
)
def test_a_connection_knows_what_its_address_means(address, netloc, loopback, local):
    connection = Connection(name="x", provider="x", base_url=address)
    assert (connection.netloc, connection.is_loopback, connection.is_local) == (netloc, loopback, local)
