"""Whole answers, from the emulator and from scripted packets."""

import asyncio

import numpy as np
import pytest

from lmbridge import (
    Finish,
    Message,
    Options,
    Progress,
    ReasoningDelta,
    Request,
    ResponseFormat,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolCallPart,
    Usage,
)
from lmbridge.errors import (
    ContextOverflow,
    ModelLoadFailed,
    ModelNotFound,
    ProtocolError,
    ServerError,
    UnsupportedFeature,
)
from lmbridge.images import Image

TEXT = "ibm/granite-4-micro"
THINKER = "qwen/qwen3-4b"
SEER = "qwen3-vl-4b"


async def test_load_prompt_reasoning_text_usage_and_finish_come_in_this_order(emulate, make_context, ask):
    emulator = await emulate()
    events = await ask.events(make_context(emulator.url), "Hello", model=THINKER)
    kinds = [type(event) for event in events]
    order = [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] is not kind]
    assert order == [Progress, ReasoningDelta, TextDelta, Usage, Finish]
    progress = [event for event in events if isinstance(event, Progress)]
    for phase in ("loading model", "reading prompt"):
        fractions = [event.fraction for event in progress if event.phase == phase]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == emulator.last.text
    assert events[-1].model == THINKER
    assert events[-1].reason == "stop"
    assert events[-1].stats.tokens_per_second
    assert events[-2].completion_tokens == emulator.last.tokens
    assert events[-2].reasoning_tokens > 0


async def test_a_loaded_model_reports_no_load(emulate, make_context, ask):
    emulator = await emulate(loaded=(TEXT,))
    events = await ask.events(make_context(emulator.url), model=TEXT)
    assert not [event for event in events if isinstance(event, Progress) and event.phase == "loading model"]


async def test_the_loaded_model_answers_a_request_that_names_none(emulate, make_context, ask):
    emulator = await emulate(loaded=(TEXT,))
    assert (await ask(make_context(emulator.url), model=None)).model == TEXT


async def test_no_model_named_and_none_loaded(emulate, make_context, ask):
    emulator = await emulate()
    with pytest.raises(ModelNotFound, match="no model is loaded"):
        await ask(make_context(emulator.url), model=None)


async def test_history_and_system_prompts_arrive_merged(emulate, make_context, ask):
    emulator = await emulate()
    messages = (
        Message.system("Be brief."),
        Message.system("Be kind."),
        Message.user("One"),
        Message.user("Two"),
        Message.assistant("Three"),
        Message.assistant("Four"),
        Message.user("Five"),
    )
    await ask(make_context(emulator.url), Request(model=TEXT, messages=messages))
    sent = emulator.last.body["history"]["messages"]
    texts = [(message["role"], "".join(part["text"] for part in message["content"])) for message in sent]
    assert texts == [
        ("system", "Be brief.\n\nBe kind."),
        ("user", "One\n\nTwo"),
        ("assistant", "Three\n\nFour"),
        ("user", "Five"),
    ]


async def test_every_picture_arrives_and_the_answer_depends_on_it(emulate, make_context, ask):
    emulator = await emulate()
    context = make_context(emulator.url)
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    blue = red[..., ::-1].copy()
    result = await ask(
        context, Request(model=SEER, messages=(Message.user("What is this?", images=[red, blue]),))
    )
    assert "Picture 1 is 64x48" in result.text
    assert "mostly red" in result.text
    assert "Picture 2 is 64x48" in result.text
    assert "mostly blue" in result.text


async def test_a_picture_that_occurs_twice_is_sent_once(scripted, make_context, ask):
    picture = Image.all_from(np.zeros((4, 4, 3), np.uint8))
    messages = (Message.user("a", images=picture), Message.assistant("b"), Message.user("c", images=picture))
    await ask(make_context(scripted.url), Request(model="test/model", messages=messages))
    assert len(scripted.sent("uploadFileBase64")) == 1
    history = scripted.opened[-1].parameter["history"]["messages"]
    files = [part for message in history for part in message["content"] if part["type"] == "file"]
    assert len(files) == 2
    assert files[0]["identifier"] == files[1]["identifier"]


async def test_every_option_reaches_the_server(scripted, make_context, ask):
    options = Options(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        max_tokens=20,
        stop=("END",),
        repeat_penalty=1.5,
        draft_model="small",
        seed=7,
        presence_penalty=0.25,
        frequency_penalty=-0.5,
        reasoning="off",
        extra={"cpu_threads": 3, "llm.prediction.logProbs": {"checked": True, "value": 2}},
    )
    await ask(make_context(scripted.url), options=options)
    assert scripted.opened[-1].settings() == {
        "llm.prediction.temperature": 0.5,
        "llm.prediction.topPSampling": {"checked": True, "value": 0.9},
        "llm.prediction.topKSampling": 40,
        "llm.prediction.minPSampling": {"checked": True, "value": 0.1},
        "llm.prediction.maxPredictedTokens": {"checked": True, "value": 20},
        "llm.prediction.stopStrings": ["END"],
        "llm.prediction.repeatPenalty": {"checked": True, "value": 1.5},
        "llm.prediction.speculativeDecoding.draftModel": "small",
        "llm.prediction.seed": {"checked": True, "value": 7},
        "llm.prediction.llama.presencePenalty": {"checked": True, "value": 0.25},
        "llm.prediction.llama.frequencyPenalty": {"checked": True, "value": -0.5},
        "llm.prediction.reasoning.enableThinking": False,
        "llm.prediction.llama.cpuThreads": 3,
        "llm.prediction.logProbs": {"checked": True, "value": 2},
    }


@pytest.mark.parametrize("limit", [None, -1])
async def test_no_limit_of_tokens_sends_none(scripted, make_context, ask, limit):
    await ask(make_context(scripted.url), options=Options(max_tokens=limit))
    assert scripted.opened[-1].settings() == {}


async def test_thinking_can_be_switched_off(emulate, make_context, ask):
    emulator = await emulate(loaded=(THINKER,))
    context = make_context(emulator.url)
    assert (await ask(context, model=THINKER, options=Options(reasoning="on"))).reasoning
    assert not (await ask(context, model=THINKER, options=Options(reasoning="off"))).reasoning


async def test_a_reasoning_level_is_refused_or_left_out(scripted, make_context, ask):
    context = make_context(scripted.url)
    with pytest.raises(UnsupportedFeature, match="level 'high'") as caught:
        await ask(context, options=Options(reasoning="high"))
    assert caught.value.features == ("reasoning",)
    assert not scripted.frames
    result = await ask(context, options=Options(reasoning="high"), on_unsupported="adapt")
    assert any("level 'high'" in note for note in result.notes)


async def test_structured_output(emulate, make_context, ask):
    emulator = await emulate()
    schema = {"type": "object", "properties": {"a_b": {"type": "string"}}, "required": ["a_b"]}
    result = await ask(make_context(emulator.url), model=THINKER, response_format=ResponseFormat(schema))
    assert result.text.startswith("{")
    assert result.reasoning  # which is why the SDK's own `parsed` is of no use
    assert not result.notes
    fields = emulator.last.body["predictionConfigStack"]["layers"][0]["config"]["fields"]
    assert {"key": "llm.prediction.structured", "value": {"type": "json", "jsonSchema": schema}} in fields


async def test_an_answer_that_is_not_the_json_asked_for_is_noted(scripted, make_context, ask):
    result = await ask(make_context(scripted.url), response_format=ResponseFormat())
    assert result.text == "Hello"
    assert result.notes == ("the answer is not the JSON that was asked for",)


WEATHER = Tool(
    "get_weather",
    "Tell the weather.",
    {
        "type": "object",
        "properties": {"city_name": {"$ref": "#/$defs/city"}, "grid": {"enum": [[1, 2], [3]]}},
        "$defs": {"city": {"type": "string"}},
        "additionalProperties": {"type": "string"},
    },
)


async def test_tools_go_and_calls_come_back(emulate, make_context, ask):
    emulator = await emulate()
    context = make_context(emulator.url)
    prompt = '[[tool=get_weather {"city_name": "Oslo", "days": 2}]]'
    tool = Tool("get_weather", "Tell the weather.", {"type": "object", "properties": {"city_name": {}}})
    result = await ask(context, prompt, model=TEXT, tools=(tool,))
    assert result.finish_reason == "tool_calls"
    (call,) = result.tool_calls
    assert call.name == "get_weather"
    assert call.arguments in {'{"city_name":"Oslo","days":2}', '{"city_name": "Oslo", "days": 2}'}
    assert call.id
    assert not call.server_executed
    messages = (Message.user(prompt), result.message, Message.tool("Rain in Oslo", call.id))
    again = await ask(context, Request(model=TEXT, messages=messages, tools=(tool,)))
    assert "Rain in Oslo" in again.text


async def test_a_tools_schema_arrives_whole(scripted, make_context, ask):
    """The SDK's own struct would drop ``$defs`` and rename ``city_name`` to ``cityName``."""
    await ask(make_context(scripted.url), tools=(WEATHER,))
    sent = scripted.opened[-1].settings()["llm.prediction.tools"]
    assert sent["tools"][0]["function"]["parameters"] == WEATHER.parameters


@pytest.mark.parametrize(
    ("choice", "names", "forced"),
    [
        (None, ["get_weather", "other"], False),
        ("auto", ["get_weather", "other"], False),
        ("required", ["get_weather", "other"], True),
        ("other", ["other"], True),
    ],
)
async def test_tool_choice(scripted, make_context, ask, choice, *, names, forced):
    await ask(make_context(scripted.url), tools=(WEATHER, Tool("other")), tool_choice=choice)
    settings = scripted.opened[-1].settings()
    sent = settings["llm.prediction.tools"]
    assert [tool["function"]["name"] for tool in sent["tools"]] == names
    assert sent.get("force", False) is forced
    assert ("llm.prediction.toolChoice" in settings) is forced


async def test_tool_choice_none_shows_no_tools_and_says_so(scripted, make_context, ask):
    result = await ask(make_context(scripted.url), tools=(WEATHER,), tool_choice="none")
    assert "llm.prediction.tools" not in scripted.opened[-1].settings()
    assert any("not shown" in note for note in result.notes)


async def test_earlier_calls_keep_the_names_of_their_arguments(scripted, make_context, ask):
    call = ToolCallPart("1", "read", '{"file_path": "x", "rows": [[1], [2]]}')
    messages = (Message.user("a"), Message.assistant(tool_calls=[call]), Message.tool("b", "1"))
    await ask(make_context(scripted.url), Request(model="test/model", messages=messages))
    history = scripted.opened[-1].parameter["history"]["messages"]
    assert history[1]["content"][-1]["toolCallRequest"] == {
        "type": "function",
        "name": "read",
        "id": "1",
        "arguments": {"file_path": "x", "rows": [[1], [2]]},
    }
    assert history[2] == {
        "role": "tool",
        "content": [{"type": "toolCallResult", "content": "b", "toolCallId": "1"}],
    }


async def test_load_settings_reach_the_load(scripted, make_context, ask, packets):
    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await channel.send({"type": "loadProgress", "progress": 0.5})
        await channel.send({"type": "loadSuccess", "info": packets.info | {"contextLength": 8000}})

    scripted.channels["getOrLoad"] = load
    options = Options(
        context_length=8000, ttl=90, load={"flash_attention": True, "offloadKVCacheToGpu": False}
    )
    events = await ask.events(make_context(scripted.url), options=options)
    opened = scripted.opened[0]
    assert opened.parameter["loadTtlMs"] == 90_000
    assert opened.settings("loadConfigStack") == {
        "llm.load.contextLength": 8000,
        "llm.load.llama.flashAttention": True,
        "llm.load.offloadKVCacheToGpu": False,
    }
    assert [event.fraction for event in events if isinstance(event, Progress)] == [0.0, 0.5, 1.0]
    assert not events[-1].notes


async def test_nothing_of_the_graphics_cards_is_sent_unless_asked_for(scripted, make_context, ask):
    context = make_context(scripted.url)
    await ask(context, options=Options(context_length=4096))
    assert set(scripted.opened[0].settings("loadConfigStack")) == {"llm.load.contextLength"}
    await ask(context, options=Options(load={"gpu": {"ratio": 0.5}}))
    sent = scripted.opened[2].settings("loadConfigStack")
    assert sent["llm.load.llama.acceleration.offloadRatio"] == 0.5


async def test_a_request_that_loads_without_a_ttl_sends_the_usual_hour(scripted, make_context, ask):
    await ask(make_context(scripted.url))
    assert scripted.opened[0].parameter["loadTtlMs"] == 3_600_000


async def test_load_settings_that_come_too_late_are_noted(scripted, make_context, ask):
    options = Options(context_length=9000, load={"flashAttention": True})
    notes = (await ask(make_context(scripted.url), options=options)).notes
    assert "the model was loaded already, with a context of 4096 tokens instead of 9000" in notes
    assert any("flashAttention" in note for note in notes)


async def test_a_model_that_had_to_go_is_noted(scripted, make_context, ask, packets):
    async def load(channel):
        await channel.send({"type": "unloadingOtherJITModel", "info": packets.info | {"modelKey": "other"}})
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await channel.send({"type": "loadSuccess", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    assert any("'other'" in note for note in (await ask(make_context(scripted.url))).notes)


async def test_an_unknown_model_is_not_found(emulate, make_context, ask):
    emulator = await emulate()
    with pytest.raises(ModelNotFound) as caught:
        await ask(make_context(emulator.url), model="no/such-model")
    assert caught.value.model == "no/such-model"


async def test_a_load_that_fails(emulate, make_context, ask):
    emulator = await emulate(load_failure=True)
    with pytest.raises(ModelLoadFailed):
        await ask(make_context(emulator.url), model=TEXT)


async def test_a_load_that_fails_in_words_nobody_knows(scripted, make_context, ask):
    async def load(channel):
        await channel.error(title="Bad hair day", rootTitle="Bad hair day")

    scripted.channels["getOrLoad"] = load
    with pytest.raises(ModelLoadFailed, match="Bad hair day"):
        await ask(make_context(scripted.url))


async def test_a_crash_in_the_middle_keeps_what_came(emulate, make_context, ask):
    emulator = await emulate(crash_after_tokens=3)
    events, error = await ask.until_error(make_context(emulator.url), model=TEXT)
    assert isinstance(error, ServerError)
    assert any(isinstance(event, TextDelta) for event in events)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("eosFound", "stop"),
        ("stopStringFound", "stop"),
        ("maxPredictedTokensReached", "length"),
        ("contextLengthReached", "length"),
        ("toolCalls", "tool_calls"),
        ("userStopped", "cancelled"),
    ],
)
async def test_stop_reasons(scripted, make_context, ask, packets, *, said, reason):
    async def predict(channel):
        await channel.send(packets.fragment("x"), packets.success(stopReason=said))

    scripted.channels["predict"] = predict
    assert (await ask(make_context(scripted.url))).finish_reason == reason


@pytest.mark.parametrize("said", ["failed", "modelUnloaded"])
async def test_stop_reasons_that_are_failures(scripted, make_context, ask, packets, said):
    async def predict(channel):
        await channel.send(packets.fragment("x"), packets.success(stopReason=said))

    scripted.channels["predict"] = predict
    with pytest.raises(ServerError, match="middle of the answer"):
        await ask(make_context(scripted.url))


async def test_figures_come_from_the_server(scripted, make_context, ask):
    result = await ask(make_context(scripted.url))
    assert result.usage == Usage(7, 2, 9)
    assert result.stats.time_to_first_token == 0.25
    assert result.stats.tokens_per_second == 50.0


async def test_a_prompt_beyond_the_context_is_refused_before_it_is_sent(scripted, make_context, ask):
    scripted.calls["applyPromptTemplate"] = lambda _: {"formatted": "long"}
    scripted.calls["countTokens"] = lambda _: {"tokenCount": 5000}
    with pytest.raises(ContextOverflow, match=r"5000 tokens.*4096"):
        await ask(make_context(scripted.url), "word " * 4000)
    assert not scripted.sent("predict")


async def test_a_long_prompt_that_fits_is_sent(scripted, make_context, ask):
    scripted.calls["applyPromptTemplate"] = lambda _: {"formatted": "long"}
    scripted.calls["countTokens"] = lambda _: {"tokenCount": 4000}
    assert (await ask(make_context(scripted.url), "word " * 4000)).text == "Hello"


async def test_a_short_prompt_is_not_counted(scripted, make_context, ask):
    await ask(make_context(scripted.url))
    assert not scripted.sent("countTokens")


@pytest.mark.parametrize("extra", [{"contextOverflowPolicy": "rollingWindow"}, None])
async def test_a_prompt_that_cannot_or_need_not_be_counted_is_sent(scripted, make_context, ask, extra):
    result = await ask(make_context(scripted.url), "word " * 4000, options=Options(extra=extra))
    assert result.text == "Hello"
    assert bool(scripted.sent("applyPromptTemplate")) is (extra is None)


@pytest.mark.parametrize(
    "fields", [{"conversation": True}, {"previous_response_id": "resp_1"}, {"integrations": ("mcp/x",)}]
)
async def test_what_only_rest_can_do_is_refused(scripted, make_context, ask, fields):
    with pytest.raises(UnsupportedFeature, match="conversations"):
        await ask(make_context(scripted.url), **fields)
    assert not scripted.frames


async def test_a_marker_that_leaks_is_not_shown(emulate, make_context, ask):
    emulator = await emulate(separate_reasoning="leaked_inline")
    result = await ask(make_context(emulator.url), model=THINKER)
    assert "__LM_STUDIO" not in result.text + result.reasoning
    assert result.text == emulator.last.text.strip()


async def test_inline_tags_are_split(emulate, make_context, ask):
    emulator = await emulate(separate_reasoning="inline")
    result = await ask(make_context(emulator.url), "[[think=hm]] [[say=Yes.]]", model=THINKER)
    assert (result.reasoning.strip(), result.text) == ("hm", "Yes.")


async def test_eight_answers_at_once_over_one_client(emulate, make_context, ask):
    emulator = await emulate(loaded=(TEXT,))
    context = make_context(emulator.url)
    results = await asyncio.gather(*(ask(context, f"[[say=answer {n}]]", model=TEXT) for n in range(8)))
    assert [result.text for result in results] == [f"answer {n}" for n in range(8)]
    assert len(emulator.find("WS /llm")) == 1


async def test_a_tool_call_is_one_whole_delta(scripted, make_context, ask, packets):
    async def predict(channel):
        await channel.send(
            packets.fragment("Let me see."),
            {"type": "toolCallGenerationStart", "toolCallId": "11"},
            {"type": "toolCallGenerationNameReceived", "name": "f"},
            {"type": "toolCallGenerationArgumentFragmentGenerated", "content": '{"a_b":'},
            {
                "type": "toolCallGenerationEnd",
                "toolCallRequest": {"type": "function", "id": "11", "name": "f", "arguments": {"a_b": 1}},
            },
            packets.success(),
        )

    scripted.channels["predict"] = predict
    events = await ask.events(make_context(scripted.url), tools=(Tool("f"),))
    assert [event for event in events if isinstance(event, ToolCallDelta)] == [
        ToolCallDelta(0, "11", "f", '{"a_b":1}')
    ]
    assert events[-1].reason == "tool_calls"


async def test_a_call_that_the_server_ran_itself_is_marked(scripted, make_context, ask, packets):
    request = {"id": "1", "type": "function", "name": "f", "arguments": {}, "pluginIdentifier": "mcp/x"}

    async def predict(channel):
        await channel.send({"type": "toolCallGenerationEnd", "toolCallRequest": request}, packets.success())

    scripted.channels["predict"] = predict
    result = await ask(make_context(scripted.url), tools=(Tool("f"),))
    assert result.tool_calls[0].server_executed


async def test_a_call_that_the_model_wrote_wrongly_costs_nothing_else(scripted, make_context, ask, packets):
    async def predict(channel):
        await channel.send(
            packets.fragment("Well: "),
            {"type": "toolCallGenerationFailed", "error": {"title": "bad JSON"}, "rawContent": "<call f>"},
            packets.success(),
        )

    scripted.channels["predict"] = predict
    result = await ask(make_context(scripted.url), tools=(Tool("f"),))
    assert result.text == "Well: <call f>"
    assert any("bad JSON" in note for note in result.notes)


async def test_a_call_without_a_name_is_an_error_and_stops_the_server(scripted, make_context, ask):
    stopped = asyncio.Event()

    async def predict(channel):
        await channel.send({"type": "toolCallGenerationEnd", "toolCallRequest": {"arguments": {}}})
        await channel.cancelled()
        stopped.set()

    scripted.channels["predict"] = predict
    with pytest.raises(ProtocolError, match="without a name"):
        await ask(make_context(scripted.url), tools=(Tool("f"),))
    async with asyncio.timeout(30):
        await stopped.wait()
