"""The provider against the LM Studio emulator: what arrived there, and that it stops when we leave."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lmbridge.chat import Message, Options, Request, ResponseFormat, Tool
from lmbridge.emulator import ApiToken, Emulator, Settings
from lmbridge.errors import (
    AuthenticationFailed,
    ContextOverflow,
    ModelLoadFailed,
    ModelNotFound,
    ProtocolError,
    ServerError,
)
from lmbridge.operations import CompleteRequest, EmbedRequest
from lmbridge_openai import OpenAICompat

TEXT = "ibm/granite-4-micro"
THINKER = "qwen/qwen3-4b"
HARMONY = "openai/gpt-oss-20b"
SEER = "qwen3-vl-4b"
EMBEDDER = "text-embedding-nomic-embed-text-v1.5"
CHAT = "/v1/chat/completions"


@pytest.fixture
async def emulate() -> AsyncIterator[Callable[..., Any]]:
    """``emulator = await emulate(jit=False)``."""
    running: list[Emulator] = []

    async def start(**switches: Any) -> Emulator:
        emulator = await Emulator(Settings.instant(**switches)).__aenter__()
        running.append(emulator)
        return emulator

    yield start
    for emulator in running:
        await emulator.__aexit__(None, None, None)


def say(text: str, model: str = TEXT, **fields: Any) -> Request:
    return Request(model=model, messages=(Message.user(text),), **fields)


@pytest.fixture(autouse=True)
def is_lm_studio(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's port is not 1234, so the dialect is set where no test asks for it to be found out."""
    plain = type(ask).__call__

    async def with_dialect(self: Any, url: str, request: Any = None, **settings: Any) -> Any:
        settings.setdefault("dialect", "lmstudio")
        return await plain(self, url, request, **settings)

    monkeypatch.setattr(type(ask), "__call__", with_dialect)


async def test_an_answer_with_usage(emulate: Any, ask: Any, transport: str) -> None:
    emulator = await emulate()
    result = (await ask(emulator.url, say("[[say=Hello there.]]"), transport=transport)).result()
    assert (result.text, result.finish_reason, result.model) == ("Hello there.", "stop", TEXT)
    assert result.usage.completion_tokens
    assert result.usage.prompt_tokens
    assert emulator.last.finished


@pytest.mark.parametrize("model", [THINKER, HARMONY])
async def test_reasoning_in_both_fields(emulate: Any, ask: Any, model: str) -> None:
    emulator = await emulate()
    result = (await ask(emulator.url, say("[[think=hm hm]] [[say=yes]]", model))).result()
    assert (result.reasoning.strip(), result.text) == ("hm hm", "yes")


async def test_reasoning_is_switched_off(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    result = (await ask(emulator.url, say("[[say=yes]]", THINKER, options=Options(reasoning="off")))).result()
    assert (result.reasoning, result.text) == ("", "yes")
    assert emulator.last.body["reasoning_effort"] == "none"


async def test_a_picture_is_seen(emulate: Any, ask: Any, picture: bytes) -> None:
    emulator = await emulate()
    asked = Request(model=SEER, messages=(Message.user("What is this?", images=[picture, picture]),))
    text = (await ask(emulator.url, asked)).text
    assert "Picture 1 is 2x2 pixels" in text
    assert "Picture 2 is 2x2 pixels" in text


async def test_options_arrive(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    options = Options(temperature=0.5, seed=1, stop=("END",), ttl=60, extra={"logit_bias": {"1": 1}})
    await ask(emulator.url, say("hi", options=options))
    body = emulator.last.body
    assert (body["temperature"], body["seed"], body["stop"], body["ttl"]) == (0.5, 1, ["END"], 60)
    assert body["logit_bias"] == {"1": 1}


async def test_a_limit_of_tokens_ends_the_answer(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    result = (await ask(emulator.url, say("[[words=50]]", options=Options(max_tokens=5)))).result()
    assert result.finish_reason == "length"
    assert result.usage.completion_tokens == 5


async def test_a_whole_round_of_tools(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    tool = Tool(
        "weather", "Tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}}
    )
    question = Message.user('[[tool=weather {"city":"Bern"}]]')
    first = (await ask(emulator.url, Request(model=TEXT, messages=(question,), tools=(tool,)))).result()
    assert first.finish_reason == "tool_calls"
    assert first.tool_calls[0].name == "weather"
    assert json.loads(first.tool_calls[0].arguments) == {"city": "Bern"}
    history = (question, first.message, Message.tool("rain", first.tool_calls[0].id))
    second = (await ask(emulator.url, Request(model=TEXT, messages=history, tools=(tool,)))).result()
    assert "rain" in second.text


async def test_a_named_tool_is_called_although_lm_studio_takes_no_object(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    asked = say("hi", tools=(Tool("one"), Tool("two")), tool_choice="two")
    result = (await ask(emulator.url, asked)).result()
    assert [call.name for call in result.tool_calls] == ["two"]


async def test_any_json_object_although_lm_studio_knows_no_json_object(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    result = (await ask(emulator.url, say("hi", response_format=ResponseFormat()))).result()
    assert isinstance(json.loads(result.text), dict)


async def test_a_schema_is_kept(emulate: Any, ask: Any) -> None:
    emulator = await emulate()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    result = (await ask(emulator.url, say("hi", response_format=ResponseFormat(schema)))).result()
    assert isinstance(json.loads(result.text)["a"], int)


async def test_the_dialect_is_found_out_on_any_port(emulate: Any, make_context: Callable[..., Any]) -> None:
    emulator = await emulate()
    request = say("hi", response_format=ResponseFormat())
    events = [batch async for batch in OpenAICompat().stream(request, make_context(emulator.url))]
    assert events
    assert emulator.find(CHAT)[0].body["response_format"]["type"] == "json_schema"


async def test_models_with_their_metadata(emulate: Any, make_context: Callable[..., Any]) -> None:
    emulator = await emulate(loaded=(TEXT,))
    found = {model.id: model for model in await OpenAICompat().list_models(make_context(emulator.url))}
    assert found[SEER].capabilities.images is True
    assert found[TEXT].capabilities.images is False
    assert found[THINKER].capabilities.reasoning_levels == ("off", "on")
    assert found[EMBEDDER].kind == "embedding"
    assert found[TEXT].loaded
    assert found[TEXT].loaded[0].context_length
    assert found[SEER].loaded == ()


async def test_embeddings(emulate: Any, make_context: Callable[..., Any], transport: str) -> None:
    emulator = await emulate()
    context = make_context(emulator.url, transport=transport)
    found = await OpenAICompat().embed(EmbedRequest(texts=("a", "b"), model=EMBEDDER), context)
    assert [len(vector) for vector in found.vectors] == [768, 768]
    assert found.vectors[0] != found.vectors[1]


async def test_plain_completions(emulate: Any, make_context: Callable[..., Any], transport: str) -> None:
    emulator = await emulate()
    context = make_context(emulator.url, transport=transport, dialect="lmstudio")
    request = CompleteRequest(prompt="Once upon", model=TEXT, options=Options(max_tokens=7))
    result = await OpenAICompat().complete(request, context)
    assert result.text
    assert result.finish_reason == "length"


async def test_an_api_token(emulate: Any, ask: Any, transport: str) -> None:
    token = f"sk-lm-{'a' * 8}:{'b' * 20}"
    emulator = await emulate(tokens=(ApiToken(token),))
    assert (await ask(emulator.url, say("hi"), key=token, transport=transport)).text
    with pytest.raises(AuthenticationFailed):
        await ask(emulator.url, say("hi"), transport=transport, name="other")


async def test_an_unknown_model(emulate: Any, ask: Any, transport: str) -> None:
    emulator = await emulate()
    with pytest.raises(ModelNotFound) as caught:
        await ask(emulator.url, say("hi", "granit"), transport=transport)
    assert caught.value.model == "granit"


# -- it stops when we leave ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["loading", "prompt", "reasoning", "answering"])
@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_leaving_stops_the_server(
    emulate: Any, make_context: Callable[..., Any], transport: str, phase: str, way: str
) -> None:
    emulator = await emulate(loaded=() if phase == "loading" else (THINKER,))
    gate = emulator.gates.hold(phase, after=3 if phase in {"reasoning", "answering"} else 0)
    context = make_context(emulator.url, transport=transport, dialect="lmstudio")
    events = OpenAICompat().stream(say("[[thoughts=20]] [[words=50]]", THINKER), context)

    async def read() -> None:
        async for _ in events:
            pass

    task = asyncio.ensure_future(read())
    await asyncio.wait_for(gate.reached(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if way == "close":
        await events.aclose()
    gate.release()
    await emulator.wait_for(lambda e: e.last.cancelled, timeout=30)
    assert emulator.last.tokens < 60


async def test_closing_between_two_blocks_stops_the_server(
    emulate: Any, make_context: Callable[..., Any], transport: str
) -> None:
    emulator = await emulate(loaded=(TEXT,))
    gate = emulator.gates.hold("answering", after=5)
    context = make_context(emulator.url, transport=transport, dialect="lmstudio")
    events = OpenAICompat().stream(say("[[words=50]]"), context)
    assert await anext(events)
    await events.aclose()
    gate.release()
    await emulator.wait_for(lambda e: e.last.cancelled, timeout=30)


# -- what LM Studio is known to get wrong ----------------------------------------------------------------


@pytest.mark.parametrize("text", ["0.3", "0.4", "mlx", "llama-server"])
@pytest.mark.parametrize("where", ["error", "in_stream"])
@pytest.mark.parametrize("strings", [True, False])
async def test_a_prompt_that_does_not_fit(
    emulate: Any, ask: Any, text: str, where: str, strings: bool
) -> None:
    emulator = await emulate(overflow=where, overflow_text=text, string_errors=strings, context_length=64)
    with pytest.raises(ContextOverflow):
        await ask(emulator.url, say("word " * 500))


async def test_a_prompt_that_does_not_fit_and_nobody_says_so(emulate: Any, ask: Any, transport: str) -> None:
    emulator = await emulate(overflow="silent", context_length=64)
    with pytest.raises(ProtocolError) as caught:
        await ask(emulator.url, say("word " * 500), transport=transport)
    assert "context" in caught.value.hint


@pytest.mark.parametrize("named", [True, False])
async def test_a_crash_within_the_answer(emulate: Any, ask: Any, transport: str, named: bool) -> None:
    emulator = await emulate(crash_after_tokens=3, error_event_name=named)
    with pytest.raises(ServerError, match="crashed"):
        await ask(emulator.url, say("[[words=50]]"), transport=transport)


async def test_a_connection_that_breaks(emulate: Any, ask: Any, transport: str) -> None:
    emulator = await emulate(drop_after_tokens=3)
    with pytest.raises(ProtocolError) as caught:
        await ask(emulator.url, say("[[words=50]]"), transport=transport)
    assert caught.value.retryable


async def test_structured_output_in_the_reasoning(emulate: Any, ask: Any) -> None:
    emulator = await emulate(json_in_reasoning=True)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    result = (await ask(emulator.url, say("hi", THINKER, response_format=ResponseFormat(schema)))).result()
    assert isinstance(json.loads(result.text)["a"], int)
    assert any("as reasoning" in note for note in ask.context.notes)


async def test_a_usage_of_zeros_is_no_usage(emulate: Any, ask: Any) -> None:
    emulator = await emulate(zero_usage=True)
    result = (await ask(emulator.url, say("[[say=a]]"))).result()
    assert (result.text, result.usage.completion_tokens) == ("a", None)


async def test_the_model_that_really_answered_is_told(emulate: Any, ask: Any) -> None:
    emulator = await emulate(wrong_model_served=True, loaded=(TEXT,))
    assert (await ask(emulator.url, say("hi", "no-such-model"))).result().model == TEXT


async def test_a_load_that_fails(emulate: Any, ask: Any, transport: str) -> None:
    emulator = await emulate(load_failure=True)
    with pytest.raises(ModelLoadFailed):
        await ask(emulator.url, say("hi"), transport=transport)


async def test_models_of_a_server_before_0_4(emulate: Any, make_context: Callable[..., Any]) -> None:
    emulator = await emulate(old_server=True)
    found = {model.id: model for model in await OpenAICompat().list_models(make_context(emulator.url))}
    assert found[SEER].capabilities.images is True


@pytest.mark.parametrize("place", ["reasoning_content", "reasoning", "inline", "leaked"])
async def test_reasoning_wherever_it_is(emulate: Any, ask: Any, place: str) -> None:
    emulator = await emulate(separate_reasoning=place)
    folded = await ask(emulator.url, say("[[think=hm hm]] [[say=yes]]", THINKER))
    assert (folded.reasoning.strip(), folded.text) == ("hm hm", "yes")


async def test_reasoning_that_only_a_leaked_marker_ends_is_told(emulate: Any, ask: Any) -> None:
    emulator = await emulate(separate_reasoning="leaked_inline")
    folded = await ask(emulator.url, say("[[think=hm hm]] [[say=yes]]", THINKER))
    assert folded.text.endswith("yes")
    assert "LM_STUDIO" not in folded.text + folded.reasoning
    assert any("may be reasoning" in note for note in ask.context.notes)
