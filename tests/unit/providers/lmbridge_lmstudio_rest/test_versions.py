"""Servers that do not have the native REST API v1, and the health of those that have."""

import pytest

from lmbridge.chat import Message, Request
from lmbridge.errors import ModelNotFound, ProtocolError, ServerError
from lmbridge.operations import DownloadRequest, LoadRequest, UnloadRequest

HELLO = Request(model="m", messages=(Message.user("hello"),))


def answering(payload, status=200):
    async def script(exchange):
        await exchange.json(payload, status)

    return script


def assert_old(error):
    assert "older than 0.4.0" in error.message
    for way in ("update LM Studio", "openai-compat", "lmstudio-sdk"):
        assert way in error.hint
    assert not error.retryable


async def test_the_answer_to_an_unknown_route_names_an_old_server(rest, serve):
    server = await serve({})  # status 200 and {"error": "Unexpected endpoint or method. (…)"}
    with pytest.raises(ServerError) as caught:
        await rest.answer(HELLO, rest.context(server.url))
    assert_old(caught.value)


@pytest.mark.parametrize(
    "sign",
    [
        {"GET /api/v0/models": answering({"object": "list", "data": []})},
        {"GET /lmstudio-greeting": answering({"lmstudio": True})},
    ],
)
async def test_a_404_of_a_server_with_v0_or_the_greeting_names_an_old_server(rest, serve, sign):
    server = await serve({"POST /api/v1/chat": answering({"error": "Not Found"}, 404), **sign})
    with pytest.raises(ServerError) as caught:
        await rest.answer(HELLO, rest.context(server.url))
    assert_old(caught.value)


async def test_a_404_of_another_program_says_that_it_is_no_lm_studio(rest, serve):
    server = await serve({"POST /api/v1/chat": answering({"detail": "Not Found"}, 404)})
    with pytest.raises(ProtocolError, match="does not answer as LM Studio") as caught:
        await rest.answer(HELLO, rest.context(server.url))
    assert "openai-compat" in caught.value.hint


async def test_a_web_page_says_that_it_is_no_lm_studio(rest, serve):
    async def page(exchange):
        await exchange.answer(b"<!doctype html><title>Router</title>", 200, "text/html")

    server = await serve({"POST /api/v1/chat": page})
    with pytest.raises(ProtocolError, match="does not answer as LM Studio"):
        await rest.answer(HELLO, rest.context(server.url))


async def test_a_missing_model_is_no_missing_route(rest, serve):
    error = {"type": "model_not_found", "code": "model_not_found", "message": 'Model "m" not found.'}
    server = await serve(
        {
            "POST /api/v1/chat": answering({"error": error}, 404),
            "GET /api/v1/models": answering({"models": []}),
        }
    )
    with pytest.raises(ModelNotFound):
        await rest.answer(HELLO, rest.context(server.url))


async def test_a_probe_that_hangs_is_given_up(rest, serve, monkeypatch):
    from lmbridge_lmstudio_rest import versions

    monkeypatch.setattr(versions, "_PROBE_SECONDS", 0.05)

    async def hang(exchange):
        await exchange.closed()

    server = await serve(
        {
            "POST /api/v1/chat": answering({}, 404),
            "GET /api/v1/models": hang,
            "GET /api/v0/models": hang,
            "GET /lmstudio-greeting": hang,
        }
    )
    with pytest.raises(ProtocolError, match="does not answer as LM Studio"):
        await rest.answer(HELLO, rest.context(server.url))


async def test_the_other_hooks_name_an_old_server_too(rest, serve):
    context = rest.context((await serve({"GET /api/v0/models": answering({"data": []})})).url)
    with pytest.raises(ServerError) as load:
        await anext(rest.plugin.load_model(LoadRequest(model="m"), context))
    with pytest.raises(ServerError) as unload:
        await rest.plugin.unload_model(UnloadRequest(model="m"), context)
    with pytest.raises(ServerError) as download:
        await rest.plugin.download_model(DownloadRequest(model="m"), context)
    for caught in (load, unload, download):
        assert_old(caught.value)


# Health


async def test_health_of_a_good_server(rest, serve):
    models = [{"type": "llm", "key": "a", "loaded_instances": [{"id": "a"}]}, {"type": "llm", "key": "b"}]
    server = await serve({"GET /api/v1/models": answering({"models": models})})
    health = await rest.plugin.health(rest.context(server.url))
    assert health.ok
    assert health.server == "LM Studio 0.4.0 or newer"
    assert health.detail == "2 models, 1 of them loaded"


async def test_health_of_an_old_server(rest, serve):
    server = await serve({"GET /api/v0/models": answering({"data": []})})
    health = await rest.plugin.health(rest.context(server.url))
    assert not health.ok
    assert health.server == "LM Studio before 0.4.0"
    assert "update LM Studio" in health.detail


async def test_health_of_another_server(rest, serve):
    server = await serve({"GET /v1/models": answering({"data": []})})
    health = await rest.plugin.health(rest.context(server.url))
    assert not health.ok
    assert "OpenAI-compatible" in health.detail


async def test_health_without_a_key(rest, serve):
    refusal = answering({"error": {"code": "invalid_api_key", "message": "no token"}}, 401)
    server = await serve({"GET /api/v1/models": refusal})
    health = await rest.plugin.health(rest.context(server.url))
    assert (health.ok, health.server) == (False, "LM Studio")
    assert "no token" in health.detail


async def test_health_of_nobody(rest):
    health = await rest.plugin.health(rest.context("http://127.0.0.1:9"))
    assert not health.ok
    assert "cannot connect" in health.detail


async def test_health_of_a_server_that_hangs(rest, serve, time_is_up):
    from lmbridge_lmstudio_rest import checking

    now = time_is_up(checking)
    asked = []

    async def hang(exchange):
        asked.append(exchange)
        now()
        await exchange.closed()

    server = await serve({"GET /api/v1/models": hang})
    health = await rest.plugin.health(rest.context(server.url))
    assert len(asked) == 1
    assert not health.ok
    assert "did not answer" in health.detail
