"""What is dropped, refused or changed on the way: options, history, tools, structured output."""

import json

import pytest

import lmbridge
from lmbridge import Message, Options, ResponseFormat, Tool

GRANITE = "ibm/granite-4-micro"
WEATHER = Tool(
    "weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}}
)
CLOCK = Tool("clock", "Tells the time.")


@pytest.mark.parametrize("option", [{"seed": 7}, {"stop": ["END"]}, {"presence_penalty": 1.0}, {"ttl": 60}])
async def test_an_unknown_key_fails_the_strict_route(make_stand, option):
    """``/api/v1/chat`` knows no stop, seed, penalties or ttl: 400 ``unrecognized_keys``.

    Source: Merserk/Caption-Creator#4; lmstudio-bug-tracker#2024.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature) as caught:
        await stand.ask("rest", options=Options(**option))
    assert set(option) <= set(caught.value.features)
    assert not stand.bodies
    result = await stand.ask("rest", "[[say=without it]]", options=Options(**option), on_unsupported="adapt")
    assert result.text == "without it"
    assert any(next(iter(option)) in note for note in result.notes)


async def test_a_key_of_ones_own_that_the_strict_route_does_not_know(make_stand):
    """A further key in ``extra`` is refused by the server; its answer names it in a list of quotes.

    Source: Merserk/Caption-Creator#4.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature) as caught:
        await stand.ask("rest", options=Options(extra={"logit_bias": {}}))
    assert caught.value.features == ("logit_bias",)
    assert "extra options" in caught.value.hint


@pytest.mark.parametrize("key", ["top_p", "seed", "presencePenalty", "enableThinking", "topP"])
async def test_the_sdk_silently_drops_settings_that_it_does_not_know(make_stand, key):
    """The SDK takes any key in ``config`` and sends only those that it knows.

    Source: lmstudio-python (LlmPredictionConfig).
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature, match=repr(key)):
        await stand.ask("sdk", options=Options(extra={key: 1}))
    assert not stand.predictions


async def test_the_sdk_has_no_seed_and_no_penalties(make_stand):
    """Its settings lack what its protocol has: seed, penalties, thinking.

    Source: lmstudio-js (lms-kv-config schema) against lmstudio-python.
    """
    stand = await make_stand()
    await stand.ask("sdk", options=Options(seed=42, presence_penalty=0.5, top_p=0.9))
    layers = stand.predictions[-1].body["predictionConfigStack"]["layers"]
    sent = {field["key"]: field["value"] for layer in layers for field in layer["config"]["fields"]}
    assert sent["llm.prediction.seed"] == {"checked": True, "value": 42}
    assert sent["llm.prediction.llama.presencePenalty"] == {"checked": True, "value": 0.5}
    assert sent["llm.prediction.topPSampling"] == {"checked": True, "value": 0.9}


@pytest.mark.parametrize("limit", [None, -1])
async def test_no_limit_of_tokens_is_sent_in_a_malformed_way(make_stand, via, limit):
    """``maxTokens: False`` becomes a limit of *false*, and -1 is no number of tokens everywhere.

    Source: lmstudio-python (maxTokens); LM Studio docs, rest/endpoints (max_tokens -1).
    """
    stand = await make_stand()
    assert (await stand.ask(via, "[[words=40]]", options=Options(max_tokens=limit))).finish_reason == "stop"
    assert "max" not in str(stand.predictions[-1].body).lower().replace("maximage", "")


@pytest.mark.parametrize("value", ["warm", float("nan"), -1.0])
async def test_a_value_that_is_out_of_range_is_sent_as_it_is(make_stand, via, value):
    """What a server makes of a value that is none differs: an error in its words, or nothing at all.

    Source: LM Studio docs, rest/chat; lmstudio-python (LlmPredictionConfig).
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.InvalidRequest, match="temperature"):
        await stand.ask(via, options=Options(temperature=value))
    assert not stand.predictions


async def test_a_setting_of_the_wrong_type_raises_no_error_of_the_sdk(make_stand):
    """The SDK checks its settings with msgspec and lets ``msgspec.ValidationError`` out.

    Source: lmstudio-python (LlmPredictionConfig.from_dict).
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.InvalidRequest, match="cpuThreads"):
        await stand.ask("sdk", options=Options(extra={"cpuThreads": "many"}))
    assert not stand.predictions


async def test_every_chat_is_saved_in_lm_studio(make_stand):
    """``store`` is true by default: each request leaves a chat behind on the user's machine.

    Source: LM Studio docs, rest/chat.
    """
    stand = await make_stand()
    await stand.ask("rest")
    assert stand.bodies[-1]["store"] is False


async def test_the_whole_conversation_cannot_be_sent_to_the_native_api(make_stand, via):
    """``/api/v1/chat`` takes no assistant messages; who flattens them changes what was said.

    Source: LM Studio docs, rest/index.
    """
    stand = await make_stand()
    history = [Message.user("I am Ada."), Message.assistant("Hello Ada."), Message.user("Who am I?")]
    if via == "rest":
        with pytest.raises(lmbridge.UnsupportedFeature) as caught:
            await stand.ask(via, history)
        assert "previous_response_id" in caught.value.hint or "connection" in caught.value.hint
    else:
        assert (await stand.ask(via, history)).text
        assert "Hello Ada." in str(stand.predictions[-1].body)


async def test_the_system_prompt_of_a_stored_conversation_sent_again(make_stand):
    """A template may refuse a second system prompt: 500, "Only user, assistant and tool roles …".

    Source: lmstudio-bug-tracker#2219.
    """
    stand = await make_stand(repeated_system_prompt_fails=True)
    turn = [Message.system("Be brief."), Message.user("Hello")]
    first = await stand.ask("rest", turn, conversation=True)
    second = await stand.ask("rest", turn, previous_response_id=first.response_id)
    assert second.text
    assert any("system prompt" in note for note in second.notes)


async def test_two_messages_of_one_role_in_a_row(make_stand, via):
    """The SDK raises for two system or assistant messages, and glues user messages together.

    Source: lmstudio-python (Chat).
    """
    stand = await make_stand()
    messages = [
        Message.system("Be brief."),
        Message.system("Be kind."),
        Message.user("One"),
        Message.user("Two"),
    ]
    await stand.ask(via, messages)
    sent = str(stand.predictions[-1].body)
    assert all(text in sent for text in ("Be brief.", "Be kind.", "One", "Two"))
    assert "OneTwo" not in sent


async def test_messages_are_no_history_for_the_sdk(make_stand):
    """A bare list of messages is refused: "Expected type, ChatHistoryData, or a dict with a 'messages' key".

    Source: lmstudio-python (Chat.from_history).
    """
    stand = await make_stand()
    await stand.ask("sdk", [Message.system("Be brief."), Message.user("Hello")])
    roles = [message["role"] for message in stand.predictions[-1].body["history"]["messages"]]
    assert roles == ["system", "user"]


async def test_the_text_item_is_not_what_the_documentation_says(make_stand):
    """The documentation's table calls a text item ``message``; the server takes only ``text``/``content``.

    Source: lmstudio docs#253; vrgamegirl19/comfyui-vrgamedevgirl#135.
    """
    stand = await make_stand()
    await stand.ask("rest", [Message.user("One"), Message.user("Two")])
    assert stand.bodies[-1]["input"] == [
        {"type": "text", "content": "One"},
        {"type": "text", "content": "Two"},
    ]


async def test_any_json_object_is_no_response_format(make_stand):
    """``response_format: {"type": "json_object"}`` is a 400, "must be 'json_schema' or 'text'".

    Source: lmstudio-bug-tracker#189.
    """
    stand = await make_stand()
    result = await stand.ask("compat", "Give me JSON", response_format=ResponseFormat())
    assert result.text.startswith("{")
    assert stand.bodies[-1]["response_format"]["type"] == "json_schema"


async def test_a_named_tool_is_no_tool_choice(make_stand):
    """``tool_choice`` as an object is a 400; only none, auto and required are known.

    Source: lmstudio-bug-tracker#670.
    """
    stand = await make_stand()
    result = await stand.ask("compat", "weather, clock?", tools=[WEATHER, CLOCK], tool_choice="weather")
    assert [call.name for call in result.tool_calls] == ["weather"]
    assert stand.bodies[-1]["tool_choice"] == "required"
    assert any("weather" in note for note in result.notes)


@pytest.mark.parametrize("via", ["sdk", "compat"])
async def test_the_id_of_a_tool_call_comes_once(make_stand, via):
    """Only the first piece of a call has its id and name; the arguments come in fragments without them.

    Source: LM Studio docs, openai-compat/tools.
    """
    stand = await make_stand()
    ask = '[[tool=weather {"city":"Bern"}]][[tool=clock {}]]'
    result = await stand.ask(via, ask, tools=[WEATHER, CLOCK])
    assert result.finish_reason == "tool_calls"
    assert [(call.name, call.arguments.replace(" ", "")) for call in result.tool_calls] == [
        ("weather", '{"city":"Bern"}'),
        ("clock", "{}"),
    ]
    assert len({call.id for call in result.tool_calls}) == 2
    history = [Message.user(ask), result.message]
    history += [Message.tool("fine", call.id) for call in result.tool_calls]
    assert (await stand.ask(via, history, tools=[WEATHER, CLOCK])).finish_reason == "stop"


async def test_tools_of_the_server_have_run_already(make_stand):
    """A call of an MCP server in a stream was made by LM Studio itself; who runs it again does it twice.

    Source: LM Studio docs, rest/streaming-events (tool_call.success).
    """
    stand = await make_stand()
    call = '[[tool=read_file {"path":"notes.txt"}]]'
    result = await stand.ask("rest", call, integrations=["mcp/files"])
    assert [made.server_executed for made in result.tool_calls] == [True]
    assert len(result.tool_results) == 1


async def test_structured_output_and_tools_are_nothing_for_the_native_api(make_stand):
    """``/api/v1/chat`` has no schema and no tools of the client: keys that it does not know.

    Source: LM Studio docs, rest/chat.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature, match="tools"):
        await stand.ask("rest", tools=[WEATHER])
    with pytest.raises(lmbridge.UnsupportedFeature, match="structured output"):
        await stand.ask("rest", response_format=ResponseFormat({"type": "object"}))
    assert not stand.bodies


@pytest.mark.parametrize("via", ["sdk", "compat"])
async def test_structured_output_of_a_thinking_model_is_no_json(make_stand, via):
    """The SDK's ``parsed`` silently becomes the raw text when thinking stands before the JSON.

    Source: any-llm#1167; lmstudio-python (PredictionResult.parsed).
    """
    stand = await make_stand()
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    result = await stand.ask(
        via, "[[think=hm]] Where?", model="qwen/qwen3-4b", response_format=ResponseFormat(schema)
    )
    assert result.reasoning
    assert json.loads(result.text).keys() == {"city"}
