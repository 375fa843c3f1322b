"""Who may use the routes."""

import socket
from collections.abc import Callable
from types import ModuleType

import pytest

Pack = Callable[[str], ModuleType]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8188",
        "192.168.1.5",
        "[::1]:8188",
        "[fe80::1%25eth0]:8188",
        "localhost",
        "LOCALHOST:8188",
        "localhost.:8188",
        socket.gethostname(),
        "studio.lan:8188",
    ],
)
def test_names_of_this_machine(pack: Pack, host: str) -> None:
    assert pack("guard").refusal({"Host": host}, ["Studio.lan"]) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8188", "localhost.evil.example", "127.0.0.1.evil.example", "[", "a b"],
)
def test_other_names(pack: Pack, host: str) -> None:
    assert "LMBRIDGE_COMFYUI_HOSTS" in pack("guard").refusal({"Host": host})


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://localhost:8188"}, True),
        ({"Origin": "http://localhost:9999"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8188"}, False),
    ],
)
def test_other_pages(pack: Pack, headers: dict[str, str], allowed: bool) -> None:
    assert (pack("guard").refusal({"Host": "localhost:8188", **headers}) is None) is allowed


def test_a_change_needs_json_and_the_token(pack: Pack) -> None:
    guard = pack("guard")
    own = {"Host": "localhost", guard.TOKEN_HEADER: guard.TOKEN}
    assert guard.refusal_of_change({**own, **JSON}) is None
    assert guard.refusal_of_change({**own, "Content-Type": "application/json; charset=utf-8"}) is None
    assert guard.refusal_of_change({**own, "Content-Type": "text/plain"})
    assert guard.refusal_of_change(own)
    assert guard.refusal_of_change({"Host": "localhost", **JSON})
    assert guard.refusal_of_change({**own, **JSON, guard.TOKEN_HEADER: guard.TOKEN[:-1]})
    assert guard.refusal_of_change({**own, **JSON, guard.TOKEN_HEADER: "ü\udc80"})
    assert guard.refusal_of_change({**own, **JSON, "Host": "evil.example"})


def test_the_token_is_new_for_each_start(pack: Pack) -> None:
    assert len(pack("guard").TOKEN) >= 40
