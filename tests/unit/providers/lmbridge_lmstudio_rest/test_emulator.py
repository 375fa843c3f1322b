"""The plugin against the emulator: what really happens on the server."""

import asyncio

import numpy as np
import pytest

from lmbridge.chat import Message, Options, Request
from lmbridge.emulator import ApiToken
from lmbridge.errors import (
    AuthenticationFailed,
    ContextOverflow,
    ImageRejected,
    LMBridgeError,
    ModelLoadFailed,
    ModelNotFound,
    ServerError,
    UnsupportedFeature,
)
from lmbridge.events import Progress, ReasoningDelta, TextDelta
from lmbridge.operations import DownloadRequest, LoadRequest, UnloadRequest

TOKEN = "sk-lm-AbCdEf12:0123456789abcdefghij"
GRANITE, QWEN, GPT_OSS, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "openai/gpt-oss-20b", "qwen3-vl-4b"


def ask(text: str, model: str = GRANITE, **fields) -> Request:
    return Request(model=model, messages=(Message.user(text),), **fields)


def chats(emulator):
    return emulator.find("/api/v1/chat")


async def test_text_reasoning_progress_and_figures(rest, lmstudio_emulator):
    events = await rest.events(
        ask("[[think=let me see]][[say=It is so.]]", QWEN), rest.context(lmstudio_emulator.url), []
    )
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.phase for event in progress] == sorted(event.phase for event in progress)
    assert (progress[0], progress[-1]) == (Progress("loading model", 0.0), Progress("reading prompt", 1.0))
    assert len(progress) == len(set(progress))
    result = await rest.answer(
        ask("[[think=let me see]][[say=It is so.]]", QWEN), rest.context(lmstudio_emulator.url)
    )
    assert (result.text, result.reasoning, result.model) == ("It is so.", "let me see", QWEN)
    assert result.usage.completion_tokens == chats(lmstudio_emulator)[-1].tokens
    assert result.response_id is None


async def test_what_is_sent_is_accepted_by_the_strict_route(rest, lmstudio_emulator):
    options = Options(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        repeat_penalty=1.1,
        max_tokens=64,
        context_length=2048,
        reasoning="high",
    )
    context = rest.context(lmstudio_emulator.url)
    await rest.answer(ask("hello", GPT_OSS, options=options), context)
    assert lmstudio_emulator.instances[0].context_length == 2048
    assert chats(lmstudio_emulator)[-1].body["reasoning"] == "high"


async def test_max_tokens_ends_the_answer_and_the_reason_says_so(rest, lmstudio_emulator):
    request = ask("[[words=50]]", options=Options(max_tokens=5))
    result = await rest.answer(request, rest.context(lmstudio_emulator.url))
    assert (result.finish_reason, result.usage.completion_tokens) == ("length", 5)
    result = await rest.answer(ask("[[words=5]]"), rest.context(lmstudio_emulator.url))
    assert result.finish_reason == "stop"


async def test_the_answer_depends_on_the_picture(rest, lmstudio_emulator):
    async def look(red: float) -> str:
        picture = np.zeros((32, 32, 3), dtype=np.float32)
        picture[..., 0] = red
        request = Request(model=VISION, messages=(Message.user("What is this?", images=[picture]),))
        return (await rest.answer(request, rest.context(lmstudio_emulator.url))).text

    assert await look(1.0) != await look(0.0)


async def test_a_picture_for_a_model_without_eyes(rest, lmstudio_emulator):
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    request = Request(model=GRANITE, messages=(Message.user("?", images=[picture]),))
    with pytest.raises((ImageRejected, UnsupportedFeature)):
        await rest.answer(request, rest.context(lmstudio_emulator.url))


async def test_a_conversation_is_continued_by_its_response_id(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(repeated_system_prompt_fails=True)
    context = rest.context(emulator.url)
    messages = (Message.system("Be brief."), Message.user("My name is Ada."))
    first = await rest.answer(Request(model=GRANITE, messages=messages, conversation=True), context)
    assert first.response_id is not None
    assert first.response_id.startswith("resp_")
    later = Request(
        model=GRANITE,
        messages=(Message.system("Be brief."), Message.user("What is my name?")),
        previous_response_id=first.response_id,
    )
    second = await rest.answer(later, context)
    assert second.response_id not in {None, first.response_id}
    assert chats(emulator)[-1].prompt_tokens > chats(emulator)[0].prompt_tokens


async def test_an_unknown_response_id(rest, lmstudio_emulator):
    request = ask("hello", previous_response_id="resp_" + "0" * 48)
    with pytest.raises(ServerError, match="resp_0000") as caught:
        await rest.answer(request, rest.context(lmstudio_emulator.url))
    assert "begin one without previous_response_id" in caught.value.hint


# Reasoning


@pytest.fixture
async def known(rest, lmstudio_emulator):
    """A context with the model's metadata, as the core gives it."""

    async def make(name):
        models = await rest.plugin.list_models(rest.context(lmstudio_emulator.url))
        return rest.context(lmstudio_emulator.url, model=next(item for item in models if item.id == name))

    return make


async def test_reasoning_is_switched_off(rest, known):
    result = await rest.answer(ask("hello", QWEN, options=Options(reasoning="off")), await known(QWEN))
    assert result.reasoning == ""


async def test_a_level_that_is_tried_unknowingly_is_refused_by_the_server(rest, lmstudio_emulator):
    with pytest.raises(LMBridgeError, match="does not expose reasoning configuration"):
        await rest.answer(
            ask("hello", GRANITE, options=Options(reasoning="off")), rest.context(lmstudio_emulator.url)
        )


# Misbehaviour


async def test_the_leaked_marker(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(separate_reasoning="leaked")
    result = await rest.answer(ask("[[think=hm]][[say=yes]]", QWEN), rest.context(emulator.url))
    assert (result.text, result.reasoning) == ("yes", "hm")


async def test_inline_tags(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(separate_reasoning="inline")
    result = await rest.answer(ask("[[think=hm]][[say=yes]]", QWEN), rest.context(emulator.url))
    assert (result.text, result.reasoning) == ("yes", "hm")


async def test_an_open_socket_behind_the_end(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(open_after_end=True)
    async with asyncio.timeout(10):
        assert (await rest.answer(ask("[[say=yes]]"), rest.context(emulator.url))).text == "yes"


@pytest.mark.parametrize("chat_start_first", [True, False])
async def test_either_order_of_start_and_load(rest, make_lmstudio_emulator, chat_start_first):
    emulator = await make_lmstudio_emulator(chat_start_first=chat_start_first)
    assert (await rest.answer(ask("[[say=yes]]"), rest.context(emulator.url))).text == "yes"


async def test_a_failure_that_only_shows_without_stream(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(failure_ends_after_start=True)
    request = ask("use [[tool=x]]", integrations=("mcp/gone",))
    with pytest.raises(ServerError) as caught:
        await rest.answer(request, rest.context(emulator.url))
    assert "plugin" in caught.value.message
    assert [record.body["stream"] for record in chats(emulator)] == [True, False]


async def test_a_failing_load(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(load_failure=True)
    with pytest.raises(ModelLoadFailed):
        await rest.answer(ask("hello"), rest.context(emulator.url))


@pytest.mark.parametrize("overflow", ["error", "in_stream", "silent"])
async def test_a_prompt_beyond_the_context(rest, make_lmstudio_emulator, overflow):
    emulator = await make_lmstudio_emulator(overflow=overflow, context_length=64, loaded=(GRANITE,))
    with pytest.raises(ContextOverflow):
        await rest.answer(ask("word " * 500), rest.context(emulator.url))


async def test_a_crash_in_the_middle_keeps_what_came_before(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(crash_after_tokens=3)
    events = []
    with pytest.raises(ServerError, match="crashed"):
        await rest.events(ask("[[words=50]]"), rest.context(emulator.url), events)
    assert any(isinstance(event, TextDelta) for event in events)


async def test_a_connection_that_drops_in_the_middle(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(drop_after_tokens=3)
    with pytest.raises(LMBridgeError):
        await rest.answer(ask("[[words=50]]"), rest.context(emulator.url))


async def test_an_unknown_model(rest, lmstudio_emulator):
    with pytest.raises(ModelNotFound) as caught:
        await rest.answer(ask("hello", "qwen/qwen3-4"), rest.context(lmstudio_emulator.url))
    assert QWEN in caught.value.near


async def test_an_unknown_key_is_named(rest, lmstudio_emulator):
    request = ask("hello", options=Options(extra={"stop": ["x"]}))
    with pytest.raises(UnsupportedFeature) as caught:
        await rest.answer(request, rest.context(lmstudio_emulator.url))
    assert caught.value.features == ("stop",)


async def test_an_old_server(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(old_server=True)
    context = rest.context(emulator.url)
    with pytest.raises(ServerError, match=r"older than 0\.4\.0"):
        await rest.answer(ask("hello"), context)
    models = await rest.plugin.list_models(context)
    assert VISION in {model.id for model in models if model.capabilities.images}
    assert (await rest.plugin.health(context)).server == "LM Studio before 0.4.0"


async def test_tokens(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(tokens=(TOKEN,))
    with pytest.raises(AuthenticationFailed, match="An LM Studio API token is required"):
        await rest.answer(ask("hello"), rest.context(emulator.url))
    with pytest.raises(AuthenticationFailed):
        await rest.answer(ask("hello"), rest.context(emulator.url, key="dummy-key"))
    assert (await rest.answer(ask("[[say=yes]]"), rest.context(emulator.url, key=TOKEN))).text == "yes"


# MCP servers that the server calls


async def test_a_tool_that_the_server_runs(rest, lmstudio_emulator):
    request = ask('[[tool=browser_navigate {"url": "x"}]]', integrations=("mcp/playwright",))
    result = await rest.answer(request, rest.context(lmstudio_emulator.url))
    assert [call.name for call in result.tool_calls] == ["browser_navigate"]
    assert all(call.server_executed for call in result.tool_calls)
    assert not result.tool_results[0].is_error
    assert result.finish_reason == "stop"
    assert result.text


async def test_a_tool_that_does_not_exist(rest, lmstudio_emulator):
    request = ask("[[tool=nonsense {}]]", integrations=("mcp/playwright",))
    result = await rest.answer(request, rest.context(lmstudio_emulator.url))
    assert result.tool_results[0].is_error


async def test_a_key_without_the_permission(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(tokens=(ApiToken(TOKEN, mcp=False),))
    request = ask("hello", integrations=("mcp/playwright",))
    with pytest.raises(AuthenticationFailed, match="mcp/playwright") as caught:
        await rest.answer(request, rest.context(emulator.url, key=TOKEN))
    assert caught.value.status == 403


# Cancelling in every phase


PHASES = {
    "loading": lambda event: event == Progress("loading model", 0.25),
    "prompt": lambda event: event == Progress("reading prompt", 0.25),
    "reasoning": lambda event: isinstance(event, ReasoningDelta),
    "answering": lambda event: isinstance(event, TextDelta),
}
LONG = "[[thoughts=200]][[words=200]]"


async def assert_stopped(emulator, gate):
    """The server has noticed that nobody listens any more, and stops when it may go on."""
    record = chats(emulator)[-1]
    await emulator.wait_for(lambda _: record.disconnected)
    gate.release()
    await emulator.wait_for(lambda _: record.cancelled)
    assert record.tokens < 400


@pytest.mark.parametrize("phase", PHASES)
async def test_cancelling_in_any_phase_stops_the_server(rest, make_lmstudio_emulator, phase):
    emulator = await make_lmstudio_emulator(finish_prompt_on_cancel=False)
    gate = emulator.gates.hold(phase, after=2)
    task = asyncio.create_task(rest.answer(ask(LONG, QWEN), rest.context(emulator.url)))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    await assert_stopped(emulator, gate)


@pytest.mark.parametrize("phase", PHASES)
async def test_closing_in_any_phase_stops_the_server(rest, make_lmstudio_emulator, phase):
    emulator = await make_lmstudio_emulator(finish_prompt_on_cancel=False)
    gate = emulator.gates.hold(phase, after=2)
    stream = rest.plugin.stream(ask(LONG, QWEN), rest.context(emulator.url))
    async with asyncio.timeout(30):
        async for batch in stream:
            if any(map(PHASES[phase], batch)):
                break
        await stream.aclose()
    await assert_stopped(emulator, gate)


async def test_leaving_while_queued_stops_the_server(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(loaded=(GRANITE,))
    gate = emulator.gates.hold("queued")
    task = asyncio.create_task(rest.answer(ask("hello"), rest.context(emulator.url)))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = chats(emulator)[-1]
    await emulator.wait_for(lambda _: record.disconnected)
    gate.release()
    await emulator.wait_for(lambda _: record.cancelled)


# Models


async def test_load_reuse_and_unload(rest, lmstudio_emulator):
    context = rest.context(lmstudio_emulator.url)

    async def load(**fields):
        return [item async for item in rest.plugin.load_model(LoadRequest(**fields), context)][-1]

    first = await load(model=GRANITE, context_length=2048)
    assert (first.id, first.context_length) == (GRANITE, 2048)
    assert (await load(model=GRANITE, context_length=2048)).id == GRANITE
    assert len(lmstudio_emulator.instances) == 1
    second = await load(model=GRANITE, context_length=1024)
    assert second.id == f"{GRANITE}:2"
    gone = await rest.plugin.unload_model(UnloadRequest(model=GRANITE), context)
    assert set(gone) == {first.id, second.id}
    assert lmstudio_emulator.instances == []


async def test_a_load_that_is_given_up_does_not_stay(rest, lmstudio_emulator):
    gate = lmstudio_emulator.gates.hold("loading", after=2)
    request, context = LoadRequest(model=GRANITE), rest.context(lmstudio_emulator.url)

    async def load():
        return [item async for item in rest.plugin.load_model(request, context)]

    task = asyncio.create_task(load())
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.release()
    await lmstudio_emulator.wait_for(lambda emulator: emulator.find("/api/v1/models/unload"))
    await lmstudio_emulator.wait_for(lambda emulator: not emulator.instances)


async def test_a_download_to_its_end(rest, lmstudio_emulator):
    context = rest.context(lmstudio_emulator.url)
    started = await rest.plugin.download_model(DownloadRequest(model="mistralai/ministral-3-3b"), context)
    assert started.job_id is not None
    async with asyncio.timeout(10):
        while (  # noqa: ASYNC110 - the route is made for polling
            status := await rest.plugin.download_model(DownloadRequest(job_id=started.job_id), context)
        ).state == "downloading":
            await asyncio.sleep(0.01)
    assert (status.state, status.fraction) == ("completed", 1.0)
    again = await rest.plugin.download_model(DownloadRequest(model="mistralai/ministral-3-3b"), context)
    assert again.state == "already_downloaded"
    with pytest.raises(LMBridgeError, match="job_none"):
        await rest.plugin.download_model(DownloadRequest(job_id="job_none"), context)


async def test_a_model_type_of_the_future_is_listed(rest, make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(unknown_model_type=True)
    models = await rest.plugin.list_models(rest.context(emulator.url))
    assert {model.id: model.kind for model in models}["acme/painter"] == "other"
