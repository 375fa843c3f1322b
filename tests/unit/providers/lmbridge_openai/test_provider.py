"""The provider against scripted servers, by both transports."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from lmbridge.chat import Message, Options, Request, ResponseFormat
from lmbridge.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContextOverflow,
    InvalidRequest,
    LMBridgeError,
    ModelNotFound,
    ProtocolError,
    RateLimited,
    ServerError,
    ServerUnreachable,
    TimedOut,
)
from lmbridge.events import Finish, TextDelta
from lmbridge.operations import CompleteRequest, EmbedRequest
from lmbridge_openai import OpenAICompat

CHAT = "/v1/chat/completions"
JSON = "application/json"


def request(**fields: Any) -> Request:
    return Request(model="m", messages=(Message.user("hi"),), **fields)


def proper(wire: Any) -> Any:
    return wire.Reply(wire.render(wire.chunk("Hel"), wire.chunk("lo"), wire.chunk(finish="stop")))


# -- a proper answer -------------------------------------------------------------------------------------


async def test_an_answer(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, proper(wire))
    result = (await ask(script.url, request(options=Options(seed=3)), transport=transport)).result()
    assert (result.text, result.finish_reason, result.model) == ("Hello", "stop", "m")
    assert ask.context.notes == ()
    assert script.bodies() == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": 3,
        }
    ]


async def test_one_list_of_events_for_a_block(script: Any, ask: Any, wire: Any) -> None:
    script.on(CHAT, proper(wire))
    await ask(script.url)
    assert ask.batches == [[TextDelta("Hel"), TextDelta("lo")], [Finish("stop", "m")]]


async def test_the_key_is_sent_as_bearer_and_no_key_sends_nothing(
    script: Any, ask: Any, wire: Any, transport: str
) -> None:
    script.on(CHAT, proper(wire))
    await ask(script.url, key="sk-secret", transport=transport)
    await ask(script.url, transport=transport, name="other")
    sent = [asked.headers.get("authorization") for asked in script.asked]
    assert sent == ["Bearer sk-secret", None]


async def test_variables_meant_for_openai_do_not_reach_other_servers(
    script: Any, ask: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "sk-of-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    script.on(CHAT, proper(wire))
    await ask(script.url, transport="sdk")
    assert "sk-of-openai" not in str(script.asked[0].headers)


async def test_loopback_goes_through_no_proxy(
    script: Any, ask: Any, wire: Any, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    script.on(CHAT, proper(wire))
    assert (await ask(script.url, transport=transport)).text == "Hello"


async def test_a_connection_is_used_again(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, proper(wire))
    for _ in range(3):
        await ask(script.url, transport=transport)
    assert script.connections == 1


async def test_blocks_of_single_bytes(script: Any, ask: Any, wire: Any, transport: str) -> None:
    stream = wire.render(wire.chunk("Hé☃"), wire.chunk(finish="stop"))
    script.on(CHAT, wire.Reply(*(stream[at : at + 1] for at in range(len(stream)))))
    assert (await ask(script.url, transport=transport)).text == "Hé☃"


async def test_keep_alives_reset_the_idle_clock(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(b": ping\n\n", end="hang"))
    context = make_context(script.url, transport=transport)
    step = asyncio.ensure_future(anext(OpenAICompat().stream(request(), context)))
    await _until(lambda: context.alive_at > 0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step


async def test_a_server_that_does_not_stream(script: Any, ask: Any, wire: Any, transport: str) -> None:
    body = b'{"model":"m","choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}'
    script.on(CHAT, wire.Reply(b"\n", body[:10], body[10:], kind=JSON))
    assert (await ask(script.url, transport=transport)).result().text == "Hello"
    assert "one piece" in ask.context.notes[0]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/octet-stream", JSON, "Text/Event-Stream;charset=utf-8"]
)
async def test_a_stream_with_another_type(script: Any, ask: Any, wire: Any, kind: str) -> None:
    script.on(CHAT, wire.Reply(b"\n", wire.render(wire.chunk("Hello", finish="stop")), kind=kind))
    assert (await ask(script.url)).result().text == "Hello"


async def test_an_end_mark_on_an_open_connection_is_enough(
    script: Any, ask: Any, wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a", finish="stop")), end="hang"))
    assert (await ask(script.url, transport=transport)).result().text == "a"
    await asyncio.wait_for(script.gone.wait(), 5)


async def test_a_connection_that_breaks_behind_the_end_mark_does_no_harm(
    script: Any, ask: Any, wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a", finish="stop")), end="drop"))
    assert (await ask(script.url, transport=transport)).result().text == "a"


async def test_the_api_path_can_be_changed(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on("/v1beta/openai/chat/completions", proper(wire))
    assert (await ask(script.url, transport=transport, api_path="/v1beta/openai")).text == "Hello"


# -- what kind of server ---------------------------------------------------------------------------------


async def test_the_dialect_is_learned_from_the_model_list(
    script: Any, make_context: Callable[..., Any], wire: Any
) -> None:
    entry = {"id": "m", "owned_by": "vllm", "max_model_len": 4096}
    script.on("/v1/models", wire.Reply(wire.render(), kind=JSON))
    script.on("/v1/models", _json(wire, {"data": [entry]})).on(CHAT, proper(wire))
    provider = OpenAICompat()
    await provider.list_models(make_context(script.url))
    await _drain(provider, make_context(script.url), request(options=Options(repeat_penalty=1.5)))
    assert script.bodies()[0]["repetition_penalty"] == 1.5
    assert len(script.bodies("/v1/models")) == 1


async def test_an_unknown_server_is_asked_once_and_only_if_it_matters(
    script: Any, make_context: Callable[..., Any], wire: Any
) -> None:
    script.on("/v1/models", _json(wire, {"data": [{"id": "m", "owned_by": "llamacpp"}]})).on(
        CHAT, proper(wire)
    )
    provider = OpenAICompat()
    await _drain(provider, make_context(script.url), request())
    assert script.bodies("/v1/models") == []
    for _ in range(2):
        await _drain(provider, make_context(script.url), request(options=Options(reasoning="off")))
    assert len(script.bodies("/v1/models")) == 1
    assert script.bodies()[-1]["chat_template_kwargs"] == {"enable_thinking": False}


async def test_a_server_without_a_model_list_is_generic(script: Any, ask: Any, wire: Any) -> None:
    script.on(CHAT, proper(wire))
    await ask(script.url, request(options=Options(reasoning="high")))
    assert script.bodies()[0]["reasoning_effort"] == "high"


async def test_a_set_dialect_is_not_asked_for(script: Any, ask: Any, wire: Any) -> None:
    script.on("/v1/models", _json(wire, {"data": [{"id": "m", "owned_by": "vllm"}]})).on(CHAT, proper(wire))
    await ask(script.url, request(response_format=ResponseFormat()), dialect="lmstudio")
    assert script.bodies()[0]["response_format"]["type"] == "json_schema"
    assert script.bodies("/v1/models") == []


async def test_pictures_travel_as_data_urls(script: Any, ask: Any, wire: Any, picture: bytes) -> None:
    script.on(CHAT, proper(wire))
    asked = Request(model="m", messages=(Message.user("What?", images=[picture]),))
    await ask(script.url, asked)
    url = script.bodies()[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,iVBOR")


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":"Context size has been exceeded."}', ContextOverflow),
        (401, b'{"error":{"message":"no key","code":"invalid_api_key"}}', AuthenticationFailed),
        (404, b'{"error":{"message":"Model \\"m\\" not found.","code":"model_not_found"}}', ModelNotFound),
        (429, b'{"error":{"message":"slow down"}}', RateLimited),
        (500, b"", ServerError),
        (502, b"<html><title>Bad Gateway</title></html>", ServerError),
        (302, b"", LMBridgeError),
    ],
)  # fmt: skip
async def test_refusals(  # noqa: PLR0917 - fixtures and parameters come by name
    script: Any, ask: Any, wire: Any, transport: str, status: int, body: bytes, kind: type[LMBridgeError]
) -> None:
    script.on(
        CHAT, wire.Reply(body, status=status, kind=JSON, headers=["Retry-After: 7", "Location: /other"])
    )
    with pytest.raises(kind) as caught:
        await ask(script.url, transport=transport)
    assert caught.value.status == status
    assert len(script.asked) == 1  # neither a retry of its own nor a redirect
    if kind is RateLimited:
        assert caught.value.retry_after == 7
    if isinstance(caught.value, ModelNotFound):
        assert caught.value.model == "m"


async def test_an_error_within_the_stream(script: Any, ask: Any, wire: Any, transport: str) -> None:
    stream = wire.render(
        wire.chunk("a"), b'event: error\ndata: {"error":{"message":"crashed"}}\n\n', done=False
    )
    script.on(CHAT, wire.Reply(stream, end="hang"))
    with pytest.raises(ServerError, match="crashed"):
        await ask(script.url, transport=transport)
    await asyncio.wait_for(script.gone.wait(), 5)


async def test_a_web_page_is_not_an_answer(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, wire.Reply(b"<!doctype html><title>Router</title>", kind="text/html"))
    with pytest.raises(ProtocolError, match="web page"):
        await ask(script.url, transport=transport)


async def test_an_error_with_status_200(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, wire.Reply(b'{"error":"Unexpected endpoint or method. (POST /x)"}', kind=JSON))
    with pytest.raises(LMBridgeError, match="Unexpected endpoint"):
        await ask(script.url, transport=transport)


@pytest.mark.parametrize("cut", [1, 30, 100])
async def test_a_connection_that_breaks_within_the_answer(
    script: Any, ask: Any, wire: Any, transport: str, cut: int
) -> None:
    stream = wire.render(wire.chunk("a"), wire.chunk("b"), wire.chunk(finish="stop"), done=False)
    script.on(CHAT, wire.Reply(stream[:-cut], end="drop"))
    with pytest.raises(ProtocolError, match="broke"):
        await ask(script.url, transport=transport)


async def test_a_finish_reason_does_not_make_up_for_a_broken_connection(
    script: Any, ask: Any, wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a", finish="stop"), done=False), end="drop"))
    with pytest.raises(ProtocolError, match="broke"):
        await ask(script.url, transport=transport)


async def test_an_answer_that_ends_too_early(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a"), done=False)))
    with pytest.raises(ProtocolError, match="end mark"):
        await ask(script.url, transport=transport)


async def test_a_finish_reason_and_a_proper_end_are_an_answer(
    script: Any, ask: Any, wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a", finish="stop"), done=False)))
    assert (await ask(script.url, transport=transport)).result().text == "a"
    assert "[DONE]" in ask.context.notes[0]


async def test_garbage(script: Any, ask: Any, wire: Any, transport: str) -> None:
    script.on(CHAT, wire.Reply(b"data: \xff\xfe{{{\n\n"))
    with pytest.raises(ProtocolError, match="no JSON"):
        await ask(script.url, transport=transport)


async def test_nobody_there(ask: Any, transport: str, unused_tcp_port: int) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        await ask(f"http://127.0.0.1:{unused_tcp_port}", transport=transport)
    assert caught.value.sent is False


async def test_a_server_that_closes_without_an_answer(ask: Any, transport: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        with pytest.raises(ServerUnreachable) as caught:
            await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", transport=transport)
    assert caught.value.sent is True


async def test_the_sdk_without_its_package_names_the_pip_command(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ConfigurationError, match="openai") as caught:
        await ask("http://127.0.0.1:9", transport="sdk")
    assert "pip install 'lmbridge[openai]'" in caught.value.hint


# -- leaving ---------------------------------------------------------------------------------------------


async def test_leaving_while_the_prompt_is_read(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str
) -> None:
    script.on(CHAT, wire.Reply(before_head=asyncio.Event()))
    events = OpenAICompat().stream(request(), make_context(script.url, transport=transport))
    step = asyncio.ensure_future(anext(events))
    await _until(lambda: bool(script.asked))
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await asyncio.wait_for(script.gone.wait(), 5)


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_leaving_within_the_answer(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str, way: str
) -> None:
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a"), done=False), end="hang"))
    events = OpenAICompat().stream(request(), make_context(script.url, transport=transport))
    assert await anext(events) == [TextDelta("a")]
    if way == "cancel":
        step = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
    await events.aclose()
    await asyncio.wait_for(script.gone.wait(), 5)


async def test_one_task_reads_and_another_closes(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str
) -> None:
    """What ``ProviderInfo.cooperative`` promises."""
    script.on(CHAT, wire.Reply(wire.render(wire.chunk("a"), done=False), end="hang"))
    events = OpenAICompat().stream(request(), make_context(script.url, transport=transport))
    assert await asyncio.create_task(anext(events)) == [TextDelta("a")]
    await asyncio.create_task(events.aclose())
    await asyncio.wait_for(script.gone.wait(), 5)


# -- the other hooks -------------------------------------------------------------------------------------


def _json(wire: Any, value: Any) -> Any:
    import json

    return wire.Reply(json.dumps(value).encode(), kind=JSON)


async def _drain(provider: OpenAICompat, context: Any, asked: Request) -> None:
    async for _ in provider.stream(asked, context):
        pass


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for lives in the code under test
            await asyncio.sleep(0.001)


async def test_complete(script: Any, make_context: Callable[..., Any], wire: Any, transport: str) -> None:
    chunks = [{"model": "m", "choices": [{"text": text, "index": 0}]} for text in ("Once", " upon")]
    last = {"choices": [{"text": "", "finish_reason": "length"}], "usage": {"completion_tokens": 2}}
    script.on("/v1/completions", wire.Reply(wire.render(*chunks, last)))
    result = await OpenAICompat().complete(
        CompleteRequest(prompt="Tell", model="m", options=Options(max_tokens=2)),
        make_context(script.url, transport=transport),
    )
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("Once upon", "length", 2)
    assert script.bodies("/v1/completions")[0]["prompt"] == "Tell"


async def test_cancelling_complete_stops_the_server(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str
) -> None:
    chunk = {"model": "m", "choices": [{"text": "a", "index": 0}]}
    script.on("/v1/completions", wire.Reply(wire.render(chunk, done=False), end="hang"))
    provider = OpenAICompat()
    task = asyncio.ensure_future(
        provider.complete(
            CompleteRequest(prompt="x", model="m"), make_context(script.url, transport=transport)
        )
    )
    await _until(lambda: bool(script.asked))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(script.gone.wait(), 5)


async def test_embed(script: Any, make_context: Callable[..., Any], wire: Any, transport: str) -> None:
    data = [{"embedding": [1, 2], "index": 0}, {"embedding": [3, 4], "index": 1}]
    script.on("/v1/embeddings", _json(wire, {"data": data, "model": "e"}))
    context = make_context(script.url, transport=transport)
    found = await OpenAICompat().embed(EmbedRequest(texts=("a", "b"), model="e"), context)
    assert found.vectors == ((1.0, 2.0), (3.0, 4.0))
    body = script.bodies("/v1/embeddings")[0]
    assert (body["model"], body["input"]) == ("e", ["a", "b"])
    assert body.get("encoding_format") in {None, "float"}


async def test_embedding_nothing_asks_nobody(make_context: Callable[..., Any]) -> None:
    found = await OpenAICompat().embed(EmbedRequest(texts=()), make_context("http://127.0.0.1:9"))
    assert found.vectors == ()


async def test_embed_reports_an_error_with_status_200(
    script: Any, make_context: Callable[..., Any], wire: Any, transport: str
) -> None:
    script.on("/v1/embeddings", _json(wire, {"error": "Unexpected endpoint"}))
    with pytest.raises(LMBridgeError, match="Unexpected endpoint"):
        await OpenAICompat().embed(
            EmbedRequest(texts=("a",), model="e"), make_context(script.url, transport=transport)
        )


async def test_a_request_without_a_model_takes_the_only_one_of_its_kind(
    script: Any, make_context: Callable[..., Any], wire: Any
) -> None:
    script.on("/v1/models", _json(wire, {"data": [{"id": "chat"}, {"id": "my-embedder"}]}))
    script.on("/v1/embeddings", _json(wire, {"data": [{"embedding": [1]}]}))
    await OpenAICompat().embed(EmbedRequest(texts=("a",)), make_context(script.url))
    assert script.bodies("/v1/embeddings")[0]["model"] == "my-embedder"


async def test_a_request_without_a_model_is_refused_if_there_are_several(
    script: Any, make_context: Callable[..., Any], wire: Any
) -> None:
    script.on("/v1/models", _json(wire, {"data": [{"id": "a"}, {"id": "b"}]}))
    with pytest.raises(InvalidRequest) as caught:
        await OpenAICompat().complete(CompleteRequest(prompt="x"), make_context(script.url))
    assert "a, b" in caught.value.hint


async def test_health(script: Any, make_context: Callable[..., Any], wire: Any, transport: str) -> None:
    script.on("/v1/models", _json(wire, {"data": [{"id": "a", "owned_by": "llamacpp"}]}))
    found = await OpenAICompat().health(make_context(script.url, transport=transport))
    assert (found.ok, found.server, found.detail) == (True, "llama.cpp", "llama.cpp offers 1 model")


async def test_health_of_what_is_not_there(make_context: Callable[..., Any], unused_tcp_port: int) -> None:
    found = await OpenAICompat().health(make_context(f"http://127.0.0.1:{unused_tcp_port}"))
    assert found.ok is False
    assert "cannot connect" in found.detail


async def test_health_of_something_else(script: Any, make_context: Callable[..., Any], wire: Any) -> None:
    script.on("/v1/models", _json(wire, {"hello": "world"}))
    found = await OpenAICompat().health(make_context(script.url))
    assert found.ok is False
    assert "no list" in found.detail


async def test_azure_addresses(script: Any, ask: Any, wire: Any) -> None:
    pytest.importorskip("openai")
    script.on("/openai/deployments/dep/chat/completions", proper(wire))
    result = await ask(
        script.url,
        key="k" * 32,
        transport="sdk",
        api_version="2024-10-21",
        azure_deployment="dep",
        dialect="openai",
    )
    assert result.text == "Hello"
    asked = script.asked[0]
    assert asked.path.endswith("?api-version=2024-10-21")
    assert asked.headers["api-key"] == "k" * 32


async def test_a_connect_timeout_is_the_connect_clock(
    ask: Any, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing answers in TEST-NET-1; a machine without a route fails at once, which is no timeout."""
    from lmbridge.chat import Timeouts
    from lmbridge.settings import connection

    monkeypatch.setattr(
        connection, "DEFAULT_TIMEOUTS", Timeouts(connect=0.05, first_event=5, idle=5, total=5)
    )
    with pytest.raises((TimedOut, ServerUnreachable)) as caught:
        await ask("http://192.0.2.1:9", transport=transport)
    if isinstance(caught.value, TimedOut):
        assert caught.value.clock == "connect"
