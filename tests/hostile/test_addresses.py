"""Names, addresses and keys that cannot work: what ``Bridge`` says before anything is sent."""

import asyncio

import pytest

from lmbridge import ConfigurationError, Message, Request, UnknownConnection, UnknownProvider

ASK = Request(model="m", messages=[Message.user("hi")])


async def refused(bridge, connection: str = "place") -> BaseException:
    async with asyncio.timeout(40):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - any class is looked at
            await bridge.generate(connection, ASK)
    return caught.value


#: Addresses, and a part of the sentence that says what is wrong or how to mend it.
ADDRESSES = {
    "http://user:hunter2@host:1234": "user name",
    "http://hunter2@host": "user name",
    "user:hunter2@host:1234": "user name",
    "file:///etc/passwd": "http",
    "file:/etc/passwd": "scheme",
    "file://host/share": "http",
    "ftp://host/x": "http",
    "unix:///run/x.sock": "http",
    "javascript://alert(1)": "http",
    "data:text/plain,hunter2": "scheme",
    "http://": "no host",
    "http:///v1": "no host",
    "https://:1234": "no host",
    ":1234": "no host",
    "http:host": "scheme",
    "http://host:0": "port",
    "http://host:99999": "port",
    "http://host:12ab": "port",
    "http://host:\uff11\uff12": "port",
    "http://host:-1": "port",
    "http://[::1": "IPv6",
    "http://[::1]x": "IPv6",
    "http://[zz]": "IPv6",
    "http://1.2.3": "IPv4",
    "http://0x7f000001": "IPv4",
    "http://2130706433": "IPv4",
    "http://999.1.1.1": "IPv4",
    "http://ho st": "space",
    "http://host\n/v1": "space",
    "http://host\r\nX-Evil: 1": "space",
    "http://ho\u200bst": "invisible",
    "http://ho\0st": "invisible",
    "http://host/../admin": "path",
    "http://host/%2e%2e/admin": "path",
    "http://host?key=hunter2": "query",
    "http://host#hunter2": "fragment",
    "http:\\\\host": "backslash",
    "http://" + "a" * 300 + ".example": "host name",
    "http://" + "a." * 2000: "too long",
    "http://xn--\u00df.example": "ASCII",
    "http://-host": "host name",
    "http://host..example": "host name",
    "": "empty",
    "   ": "empty",
}


@pytest.mark.parametrize("address", ADDRESSES, ids=ascii)
async def test_an_address_that_cannot_be_used(http_target, make_place, fails, address):
    error = await refused(make_place(http_target, address))
    fails(error, ConfigurationError, secrets=["hunter2"])
    assert ADDRESSES[address] in str(error), error
    assert "base_url" in str(error).lower()


@pytest.mark.parametrize(
    "key",
    [
        "hunter2\nX-Evil: 1",
        "hunter2\r\n\r\nGET /",
        "hunter2\n\nhunter3",
        "hun\0ter2",
        "hun\u200bter2",
        "hun\u2028ter2",
        "hun\x7fter2",
        "\u30d1\u30b9\u30ef\u30fc\u30c9 hunter2",
        "hunter2" * 2000,
        "",
        "   ",
    ],
    ids=lambda key: ascii(key[:20]),
)
async def test_a_key_that_cannot_be_sent(target, make_place, fails, key):
    error = await refused(make_place(target, "http://127.0.0.1:1", api_key=key))
    fails(error, ConfigurationError, secrets=["hunter2", "ter2", "\u30d1\u30b9"])
    assert "api_key" in str(error).lower()


@pytest.mark.parametrize("key", ["right key\n", "\tright key ", '"right key"', "'right key'\r\n"])
async def test_white_space_and_quotes_around_a_key_are_no_part_of_it(http_target, faulty, make_place, key):
    server = await faulty(http_target, http_target.delta("Hello"), http_target.end())
    bridge = make_place(http_target, server.url, api_key=key)
    assert (await bridge.generate("place", ASK)).text == "Hello"
    assert {asked.headers["authorization"] for asked in server.find("POST *")} == {"Bearer right key"}


@pytest.mark.parametrize(("name", "near"), [("plaze", "place"), ("PLACE1", "place"), ("lmstudio", None)])
async def test_a_connection_that_does_not_exist(target, make_place, fails, name, near):
    error = await refused(make_place(target, "http://127.0.0.1:1"), name)
    fails(error, UnknownConnection, connection=name)
    assert name in error.message
    if near:
        assert f"did you mean '{near}'" in error.hint


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\n",
        "a" * 100_000,
        "../../etc/passwd",
        "pla\0ce",
        "sk-hunter2hunter2",
        "\ud800",
        "%s{0}",
        "плейс",
    ],
    ids=lambda name: ascii(name[:20]),
)
async def test_a_name_that_is_none(target, make_place, fails, name):
    error = await refused(make_place(target, "http://127.0.0.1:1"), name)
    fails(error, UnknownConnection, connection=None, secrets=["hunter2"])
    str(error).encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("provider", ["openai-compatible", "lmstudio", "lm-studio-rest", "zzz", ""])
async def test_a_provider_that_does_not_exist(target, make_bridge, fails, provider):
    from lmbridge_openai import OpenAICompat

    providers = {"openai-compat": OpenAICompat, "lmstudio-rest": OpenAICompat}
    bridge = make_bridge(providers, connections={"place": {"provider": provider, "base_url": "http://h"}})
    error = await refused(bridge)
    fails(error, ConfigurationError | UnknownProvider)
    if provider == "zzz":
        assert "openai-compat" in str(error)
    elif provider:
        assert "did you mean" in str(error)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_concurrency", 0),
        ("max_concurrency", "many"),
        ("connect_timeout", -1),
        ("idle_timeout", "nan"),
        ("total_timeout", float("inf")),
        ("first_event_timeout", 10**400),
        ("image_quality", 1000),
        ("image_format", "gif"),
        ("image_max_side", -5),
        ("on_unsupported", "ignore"),
        ("model", "a\nb"),
        ("model", ""),
        ("enabled", "perhaps"),
        ("no_such_setting", "hunter2"),
        ("base_ur", "hunter2"),
    ],
)
async def test_a_setting_that_is_wrong(http_target, make_place, fails, setting, value):
    error = await refused(make_place(http_target, "http://127.0.0.1:1", **{setting: value}))
    fails(error, ConfigurationError, secrets=["hunter2", "1" + "0" * 50])
    assert setting.rstrip("e") in str(error).lower()
