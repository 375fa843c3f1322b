"""Wrong ports, wrong forms of an address, proxies, dead sockets, several loops."""

import asyncio
import logging
import os
import subprocess
import sys
import threading

import lmstudio
import pytest
from aiohttp import web

import lmbridge

GRANITE = "ibm/granite-4-micro"
HTML = "<!doctype html><html><head><title>ComfyUI</title></head></html>"


async def test_the_sdk_scans_ports_and_never_tries_1234(make_stand, monkeypatch):
    """Without a host the SDK tries five ports of the desktop application, none of them the server's 1234.

    Source: lmstudio-python (AsyncClient.find_default_local_api_host).
    """

    async def scan():
        raise AssertionError("the SDK looks for a server by itself")

    monkeypatch.setattr(lmstudio.AsyncClient, "find_default_local_api_host", scan)
    stand = await make_stand()
    assert (await stand.ask("sdk", "[[say=here]]")).text == "here"


@pytest.mark.parametrize(
    "form",
    [
        "{host}:{port}",
        "http://{host}:{port}/",
        "http://{host}:{port}/v1",
        "{host}:{port}/v1/",
        "localhost:{port}",
    ],
)
async def test_each_client_wants_the_address_in_another_form(make_stand, make_bridge_to, via, form):
    """The SDK takes ``host:port`` alone, other clients want ``http://`` or ``/v1``; each refuses the rest.

    Source: lmstudio-python#157, #66, #70; lmstudio-bug-tracker#910.
    """
    emulator = (await make_stand()).emulator
    bridge = make_bridge_to(form.format(host=emulator.host, port=emulator.port))
    request = lmbridge.Request(model=GRANITE, messages=[lmbridge.Message.user("[[say=here]]")])
    assert (await bridge.generate(via, request)).text == "here"


async def test_the_sdk_speaks_no_https(make_bridge_to, ask_for):
    """The SDK writes ``http://`` and ``ws://`` before whatever host it gets.

    Source: lmstudio-python (AsyncClient, _ws_impl).
    """
    bridge = make_bridge_to("https://llm.example")
    with pytest.raises(lmbridge.ConfigurationError, match="no https") as caught:
        await bridge.generate("sdk", ask_for())
    assert "lmstudio-rest" in caught.value.hint


async def test_nobody_listens_there(make_bridge_to, ask_for, via, unused_tcp_port):
    """The server is switched off in LM Studio, or listens on another port.

    Source: lmstudio-bug-tracker#910.
    """
    bridge = make_bridge_to(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(lmbridge.ServerUnreachable, match=str(unused_tcp_port)) as caught:
        await bridge.generate(via, ask_for())
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["a page", "other json", "plain text", "404 page"])
async def test_another_program_has_the_port(serve, make_bridge_to, ask_for, via, kind):
    """Another server answers at the port, with a page or JSON of its own; the SDK raises JSONDecodeError.

    Source: lmstudio-python#157, #114.
    """

    async def answer(_):
        if kind == "a page":
            return web.Response(text=HTML, content_type="text/html")
        if kind == "404 page":
            return web.Response(status=404, text=HTML, content_type="text/html")
        if kind == "other json":
            return web.json_response({"status": "running"})
        return web.Response(text="It works!")

    url = await serve(answer)
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await make_bridge_to(url).generate(via, ask_for())
    assert not isinstance(caught.value, lmbridge.PluginError)
    assert any(word in caught.value.hint for word in ("port", "address"))


async def test_a_server_that_takes_the_connection_and_says_nothing(make_stand):
    """A silent server raises a raw ``httpx.ReadTimeout`` out of the SDK after its own second.

    Source: lmstudio-python (AsyncClient._ensure_api_host_is_valid).
    """
    stand = await make_stand(greeting="hang", fields={"connect_timeout": 0.05})
    with pytest.raises(lmbridge.TimedOut) as caught:
        await stand.ask("sdk")
    assert caught.value.clock == "connect"


@pytest.mark.parametrize("greeting", ["text", "html"])
async def test_a_greeting_that_is_no_json(make_stand, greeting):
    """A greeting that is no JSON raises a raw ``json.JSONDecodeError`` out of the SDK.

    Source: lmstudio-python#66.
    """
    stand = await make_stand(greeting=greeting)
    with pytest.raises(lmbridge.ProtocolError, match="other than LM Studio"):
        await stand.ask("sdk")


async def test_an_unknown_route_is_answered_with_status_200(make_stand, via):
    """LM Studio answers a path that it does not know with 200 and ``{"error": "Unexpected endpoint …"}``.

    Source: lmstudio-bug-tracker#1879, #1680.
    """
    stand = await make_stand(meddle=True)

    async def unexpected(request):
        said = f"Unexpected endpoint or method. ({request.method} {request.path}). Returning 200 anyway"
        return web.json_response({"error": said})

    for path in ("/lmstudio-greeting", "/api/v1/chat", "/v1/chat/completions"):
        stand.meddler.routes[path] = unexpected
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await stand.ask(via)
    assert isinstance(caught.value, lmbridge.ServerError | lmbridge.ProtocolError)
    assert any(word in caught.value.hint for word in ("update LM Studio", "base address"))


async def test_lm_studio_before_0_4_has_no_native_api(make_stand):
    """REST v1 needs LM Studio 0.4.0; an older one answers its paths as unknown routes.

    Source: LM Studio docs, rest/index.
    """
    stand = await make_stand(old_server=True)
    with pytest.raises(lmbridge.ServerError, match=r"older than 0\.4\.0") as caught:
        await stand.ask("rest")
    assert "openai-compat" in caught.value.hint
    assert (await stand.ask("sdk", "[[say=still here]]")).text == "still here"
    assert (await stand.ask("compat", "[[say=still here]]")).text == "still here"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
async def test_a_proxy_makes_this_machine_unreachable(make_stand, via, monkeypatch, variable):
    """httpx sends even 127.0.0.1 through a proxy that the environment names.

    Source: lmstudio-python#157; httpx docs, environment variables.
    """
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    stand = await make_stand()
    before = dict(os.environ)
    assert (await stand.ask(via, "[[say=direct]]")).text == "direct"
    assert dict(os.environ) == before  # other code of the process keeps its proxy


async def test_a_dropped_socket_kills_the_sdk_client_for_good(make_stand):
    """After one dropped socket every further call of the SDK's client fails; entering it again is no help.

    Source: lmstudio-bug-tracker#907; mattjohnpowell/comfyui-lmstudio-image-to-text-node#24.
    """
    stand = await make_stand()
    await stand.ask("sdk")
    stand.emulator.drop_sockets()
    assert (await stand.ask("sdk", "[[say=back again]]")).text == "back again"
    assert len(stand.predictions) == 2  # the call that had not begun was sent once


async def test_a_prediction_is_not_sent_again_when_its_socket_breaks(make_stand, via):
    """A client that reconnects and repeats makes the server work twice, and mixes two answers.

    Source: mattjohnpowell/comfyui-lmstudio-image-to-text-node#24.
    """
    stand = await make_stand(drop_after_tokens=3)
    partial, error = await stand.until_error(via, "[[words=20]]")
    assert isinstance(error, lmbridge.ProtocolError | lmbridge.ServerUnreachable)
    assert error.retryable
    assert len(stand.predictions) == 1
    assert partial.text or via == "sdk"


async def test_the_sdk_client_belongs_to_one_event_loop(make_stand, via):
    """From another loop the SDK raises ``LMStudioRuntimeError``, and HTTP sessions hang or raise.

    Source: lmstudio-python (AsyncClient, "running in a different event loop").
    """
    stand = await make_stand()
    gate = stand.emulator.gates.hold("answering", after=1)
    here = asyncio.ensure_future(stand.ask(via, "[[say=one two three]]"))
    await gate.reached()
    thread = asyncio.to_thread(lambda: asyncio.run(stand.ask(via, "[[say=four]]")))
    there = asyncio.ensure_future(thread)
    await stand.emulator.wait_for(lambda emulator: len(stand.predictions) == 2)
    gate.release()
    assert [(await here).text, (await there).text] == ["one two three", "four"]


async def test_threads_without_a_loop_share_one_bridge(make_stand, via):
    """A node or a server calls from threads of its own; the SDK's synchronous client does not reconnect.

    Source: lmstudio-python (Client).
    """
    stand = await make_stand()
    answers: list[str] = []

    def work(word: str) -> None:
        request = lmbridge.Request(model=GRANITE, messages=[lmbridge.Message.user(f"[[say={word}]]")])
        answers.append(asyncio.run(stand.bridge.generate(via, request)).text)

    threads = [threading.Thread(target=work, args=(word,)) for word in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(answers) == ["a", "b", "c"]


async def test_an_abandoned_stream_fills_the_log(make_stand, caplog):
    """The SDK logs every late packet of an abandoned stream, and every dropped socket, in words of its own.

    Source: lmstudio-python (AsyncWebsocketHandler).
    """
    stand = await make_stand()
    request = lmbridge.Request(model=GRANITE, messages=[lmbridge.Message.user("[[words=300]]")])
    async with stand.bridge.stream("sdk", request) as events:
        async for event in events:
            if isinstance(event, lmbridge.TextDelta):
                break
    await stand.emulator.wait_for(lambda emulator: emulator.last.state != "open")
    stand.emulator.drop_sockets()
    await stand.ask("sdk")
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [record for record in loud if "ebsocket" in record.name]


def test_a_pre_release_of_httpx_breaks_the_import_of_the_sdk(tmp_path):
    """``pip install --pre lmstudio`` brings httpx 1.0.dev, with which importing the SDK fails.

    Source: PyPI, lmstudio and httpx (cannot import name 'ASGITransport').
    """
    (tmp_path / "httpx.py").write_text("__version__ = '1.0.dev6'\n", encoding="utf-8")
    script = (
        "import asyncio, lmbridge\n"
        "async def main():\n"
        "    async with lmbridge.Bridge({'dead': {'provider': 'openai-compat', "
        "'base_url': 'http://127.0.0.1:9'}}) as bridge:\n"
        "        request = lmbridge.Request(model='m', messages=[lmbridge.Message.user('hi')])\n"
        "        for name in ('lmstudio-sdk', 'dead'):\n"
        "            try:\n"
        "                await bridge.generate(name, request)\n"
        "            except lmbridge.LMBridgeError as error:\n"
        "                print(type(error).__name__, error)\n"
        "asyncio.run(main())\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    first, second = ran.stdout.splitlines()[:2] if ran.stdout.count("\n") >= 2 else (ran.stdout, ran.stderr)
    assert first.startswith("PluginError")
    assert "lmstudio-sdk" in first
    assert "httpx" in ran.stdout
    assert "ServerUnreachable" in ran.stdout, second
