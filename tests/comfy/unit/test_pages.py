"""The routes' answers, without a server."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

Pack = Callable[[str], ModuleType]


def test_each_route_has_its_answer(pack: Pack) -> None:
    routes, pages = pack("routes"), pack("pages")
    assert set(routes.QUESTIONS) == set(pages.QUESTIONS)
    assert set(routes.CHANGES) == set(pages.CHANGES)


def test_addresses_are_shown_without_what_is_obvious(pack: Pack) -> None:
    shown = pack("pages")._shown_address
    assert shown("http://127.0.0.1:1234/") == "127.0.0.1:1234"
    assert shown("https://api.example/v1") == "https://api.example/v1"
    assert shown(None) is None


@pytest.mark.parametrize(
    "error", ["ServerUnreachable", "AuthenticationFailed", "TimedOut", "ConfigurationError"]
)
def test_a_connection_that_fails_is_down(pack: Pack, error: str) -> None:
    from lmbridge import errors

    state = pack("pages")._state(getattr(errors, error)("why", hint="do"))
    assert state == {"state": "down", "why": "why", "hint": "do"}


def test_a_server_that_cannot_list_is_unknown(pack: Pack) -> None:
    from lmbridge.errors import UnsupportedFeature

    assert pack("pages")._state(UnsupportedFeature("no list"))["state"] == "unknown"
    assert pack("pages")._state(None)["state"] == "up"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("UnknownConnection", 404),
        ("ModelNotFound", 404),
        ("InvalidRequest", 400),
        ("UnsupportedFeature", 409),
        ("TimedOut", 504),
        ("ServerUnreachable", 502),
        ("ModelLoadFailed", 502),
    ],
)
def test_each_error_has_its_status(pack: Pack, error: str, status: int) -> None:
    from lmbridge import errors

    assert pack("pages")._status(getattr(errors, error)("why")) == status


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt_id": "p"},
        {"prompt_id": 1, "node": "1"},
        {"prompt_id": "", "node": "1"},
        {"prompt_id": "p" * 2000, "node": "1"},
    ],
)
async def test_nonsense_is_refused(pack: Pack, body: Any) -> None:
    pages = pack("pages")
    with pytest.raises(pages.Refused) as caught:
        await pages.CHANGES["stop"](body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "extra", [{"config": 1}, {"config": []}, {"context_length": 0}, {"context_length": True}]
)
async def test_a_load_with_nonsense_is_refused(
    pack: Pack, extra: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = pack("pages")
    bridge = SimpleNamespace(load_model=None)
    monkeypatch.setattr(pages.service, "open", lambda: SimpleNamespace(bridge=bridge))
    with pytest.raises(pages.Refused) as caught:
        await pages.CHANGES["models/load"]({"connection": "c", "model": "m", **extra})
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("asked", "status", "body", "freed"),
    [
        ("POST /free", 200, b'{"unload_models": true}', 1),
        ("POST /api/free", 200, b'{"free_memory": true}', 1),
        ("POST /free", 200, b'{"unload_models": false}', 0),
        ("POST /free", 403, b'{"unload_models": true}', 0),
        ("POST /free", 200, b"[]", 0),
        ("POST /free", 200, b"nonsense", 0),
        ("GET /free", 200, b'{"unload_models": true}', 0),
        ("POST /freedom", 200, b'{"unload_models": true}', 0),
    ],
)
async def test_comfyuis_unload_button(
    pack: Pack, monkeypatch: Any, *, asked: str, status: int, body: bytes, freed: int
) -> None:
    routes, calls = pack("routes"), []
    monkeypatch.setattr(routes, "_release", lambda: calls.append(1))
    request = make_mocked_request(*asked.split())
    request._read_bytes = body

    async def comfyui(request: web.Request) -> web.Response:
        return web.Response(status=status)

    assert (await routes.free_with_comfyui(request, comfyui)).status == status
    assert len(calls) == freed
