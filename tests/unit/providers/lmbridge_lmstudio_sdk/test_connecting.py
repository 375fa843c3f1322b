"""Addresses, tokens, the greeting, proxies and clocks of the connection itself."""

import asyncio
import gc
import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import lmstudio
import pytest
from aiohttp import web

from lmbridge.chat import Timeouts
from lmbridge.context import Context
from lmbridge.errors import (
    AuthenticationFailed,
    ConfigurationError,
    LMBridgeError,
    ProtocolError,
    ServerUnreachable,
    TimedOut,
)
from lmbridge.runtime import LoopResources
from lmbridge_lmstudio_sdk import connecting, guarded

TEXT = "ibm/granite-4-micro"


@pytest.mark.parametrize("form", ["http://{}", "{}", "ws://{}", "http://{}/", "http://{}/v1", "{}/api/v1"])
async def test_every_usual_form_of_an_address(scripted, make_context, ask, form):
    assert (await ask(make_context(form.format(scripted.address)))).text == "Hello"


@pytest.mark.parametrize(
    ("address", "why"),
    [("https://host.example", "no https"), ("http://host.example:1234/lm", "path"), ("", "no address")],
)
async def test_addresses_that_the_sdk_cannot_use(make_context, ask, address, why):
    with pytest.raises(ConfigurationError, match=why) as caught:
        await ask(make_context(address))
    assert caught.value.hint


async def test_nobody_listens(make_context, ask, provider):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = make_context(f"http://127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable) as caught:
        await ask(context)
    assert not caught.value.sent  # the core may try again
    assert not (await provider.health(context)).ok


async def answer(status=200, **fields):
    return web.Response(status=status, **fields)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"text": "Ollama is running"}, "other than LM Studio"),
        ({"text": "<html><title>Router</title></html>", "content_type": "text/html"}, "other than LM Studio"),
        ({"text": "<html><title>Router</title></html>", "status": 404}, "Router"),
        ({"text": "404 page not found", "status": 404}, "404 page not found"),
        ({"text": "[]"}, "other than LM Studio"),
        ({"text": '{"lmstudio": false}'}, "other than LM Studio"),
        ({"text": '{"error": "Unexpected endpoint or method. (GET /lmstudio-greeting)"}'}, "too old"),
        ({"text": "", "status": 500}, "other than LM Studio"),
    ],
)
async def test_something_else_answers(scripted, make_context, ask, provider, *, fields, what):
    scripted.greeting = lambda _: answer(**fields)
    context = make_context(scripted.url)
    with pytest.raises(ProtocolError, match=what) as caught:
        await ask(context)
    assert caught.value.hint
    assert what in (await provider.health(context)).detail


async def test_what_answers_is_named(scripted, make_context, ask):
    scripted.greeting = lambda _: answer(text="hello", headers={"Server": "TinyWeb/1.0"})
    with pytest.raises(ProtocolError, match=r"TinyWeb/1\.0"):
        await ask(make_context(scripted.url))


@pytest.fixture
def time_is_up(monkeypatch):
    """``time_is_up()``: the clock that ``connecting`` started last has passed, however long it was."""
    clocks = []

    def timeout(seconds):
        clocks.append(asyncio.timeout(seconds))
        return clocks[-1]

    monkeypatch.setattr(connecting, "asyncio", SimpleNamespace(**{**vars(asyncio), "timeout": timeout}))

    def now():
        with suppress(RuntimeError):  # it has passed already
            clocks[-1].reschedule(asyncio.get_running_loop().time())

    return now


async def test_a_greeting_that_never_comes(scripted, make_context, ask, time_is_up):
    async def never(*_):
        time_is_up()
        await asyncio.Event().wait()

    scripted.greeting = never
    with pytest.raises(TimedOut, match="said nothing") as caught:
        await ask(make_context(scripted.url, timeouts=Timeouts(connect=30)))
    assert caught.value.clock == "connect"


async def test_a_login_that_is_never_answered(scripted, make_context, ask, time_is_up):
    """The SDK itself would wait forever."""
    scripted.auth = lambda _: time_is_up()
    with pytest.raises(TimedOut, match="complete the connection") as caught:
        await ask(make_context(scripted.url, timeouts=Timeouts(connect=30)))
    assert caught.value.clock == "connect"


@pytest.mark.parametrize("said", [5, [], {}, {"success": None, "error": None}, "yes"])
async def test_a_login_that_is_answered_with_garbage(scripted, make_context, ask, said):
    scripted.auth = lambda _: said
    with pytest.raises(LMBridgeError):
        await ask(make_context(scripted.url, timeouts=Timeouts(connect=5)))


async def test_a_failed_connection_is_tried_anew_by_the_next_call(scripted, make_context, ask):
    good = scripted.greeting
    scripted.greeting = lambda _: answer(text="?")
    context = make_context(scripted.url)
    with pytest.raises(ProtocolError):
        await ask(context)
    scripted.greeting = good
    assert (await ask(context)).text == "Hello"


async def test_a_token_is_sent_in_its_halves(scripted, make_context, ask, packets):
    await ask(make_context(scripted.url, api_key=packets.token))
    identifier, _, passkey = packets.token.removeprefix("sk-lm-").partition(":")
    assert {(login["clientIdentifier"], login["clientPasskey"]) for login in scripted.logins} == {
        (identifier, passkey)
    }


async def test_a_token_is_accepted(emulate, make_context, ask, packets):
    emulator = await emulate(tokens=(packets.token,))
    assert (await ask(make_context(emulator.url, api_key=packets.token), model=TEXT)).text


@pytest.mark.parametrize("key", [None, "sk-lm-ZZZZZZZZ:zzzzzzzzzzzzzzzzzzzz"])
async def test_a_token_that_is_missing_or_wrong(emulate, make_context, ask, packets, key):
    emulator = await emulate(tokens=(packets.token,))
    with pytest.raises(AuthenticationFailed) as caught:
        await ask(make_context(emulator.url, api_key=key), model=TEXT)
    assert "zzzz" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-proj-secret", "lm-studio", "sk-lm-short:secret"])
async def test_a_malformed_token_is_named_without_being_shown(scripted, make_context, ask, key):
    with pytest.raises(ConfigurationError, match="no LM Studio token") as caught:
        await ask(make_context(scripted.url, api_key=key))
    assert key not in f"{caught.value!r} {caught.value}"
    assert not scripted.logins


async def test_a_token_of_the_environment_goes_nowhere_by_itself(
    scripted, make_context, ask, packets, monkeypatch
):
    """The SDK (1.6) would send it to whatever address it is given."""
    monkeypatch.setenv("LMSTUDIO_API_TOKEN", packets.token)
    await ask(make_context(scripted.url))
    assert "abcdefghij" not in str(scripted.logins)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_loopback_never_goes_through_a_proxy(scripted, make_context, ask, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert (await ask(make_context(scripted.url))).text == "Hello"


async def test_a_proxy_that_cannot_be_bypassed_is_named(scripted, make_context, ask, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delattr("lmstudio._ws_impl.aconnect_ws")
    with pytest.raises(ConfigurationError) as caught:
        await ask(make_context(scripted.url))
    assert "NO_PROXY=127.0.0.1" in caught.value.hint


async def test_the_bypass_is_for_our_connections_only(scripted, make_context, ask, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    await ask(make_context(scripted.url))
    client = lmstudio.AsyncClient(scripted.address)
    guarded.skip_greeting(client)
    with pytest.raises(lmstudio.LMStudioWebsocketError):
        await client.__aenter__()
    await client.aclose()


async def test_cancelled_while_connecting_nothing_stays_open(scripted, make_context, provider, resources):
    asked = asyncio.Event()

    def login(_):
        asked.set()

    scripted.auth = login
    task = asyncio.create_task(provider.unload_model(_Unload(), make_context(scripted.url)))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    others = {task for task in asyncio.all_tasks() if "lmstudio" in repr(task.get_coro())}
    assert not others


class _Unload:
    model = "x"


async def test_health_names_the_server(scripted, make_context, provider):
    health = await provider.health(make_context(scripted.url))
    assert (health.ok, health.server) == (True, "LM Studio 9.9.9")


async def test_health_of_a_server_without_a_version(scripted, make_context, provider):
    del scripted.calls["version"]
    health = await provider.health(make_context(scripted.url))
    assert (health.ok, health.server) == (True, "LM Studio")


async def test_health_tells_a_refused_token(emulate, make_context, provider, packets):
    emulator = await emulate(tokens=(packets.token,))
    assert not (await provider.health(make_context(emulator.url))).ok


async def test_a_dropped_connection_is_not_logged_by_the_sdk(scripted, make_context, ask, caplog):
    context = make_context(scripted.url)
    await ask(context)
    caplog.clear()
    scripted.drop()
    await ask(context)
    gc.collect()
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record for record in loud if record.name != "asyncio"] == []  # it complains of slow machines


async def test_no_log_holds_the_token(scripted, make_context, ask, packets, *, caplog, monkeypatch):
    async def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr("httpx_ws.AsyncWebSocketSession.send_json", refuse)
    with pytest.raises(LMBridgeError), caplog.at_level(logging.DEBUG):
        await ask(make_context(scripted.url, api_key=packets.token))
    assert "abcdefghij0123456789" not in caplog.text


async def test_each_loop_has_a_client_of_its_own(scripted, make_context, ask):
    """A client of the SDK refuses to be used from another loop."""
    context = make_context(scripted.url)
    await ask(context)

    async def elsewhere():
        resources = LoopResources(asyncio.get_running_loop())
        try:
            return await ask(Context(context.connection, context.timeouts, resources))
        finally:
            await resources.close()

    result = await asyncio.to_thread(asyncio.run, elsewhere())
    assert result.text == "Hello"
    assert (await ask(context)).text == "Hello"
    assert scripted.connections == 10


def test_importing_the_plugin_touches_neither_network_nor_logging_levels():
    code = (
        "import logging, socket\n"
        "socket.socket.connect = None\n"
        "import lmbridge_lmstudio_sdk\n"
        "import lmbridge_lmstudio_sdk.logs as logs\n"
        "logs.quieten()\n"
        "for name in logs._LOGGERS:\n"
        "    assert len(logging.getLogger(name).filters) == 1, name\n"
        "    assert logging.getLogger(name).level == logging.NOTSET\n"
        "assert not logging.getLogger().handlers\n"
    )
    paths = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": paths})
