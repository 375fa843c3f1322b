"""`POST /v1/messages` as a raw client sees it."""

import json
import re

import pytest

TEXT, THINKING, GPT_OSS = "ibm/granite-4-micro", "qwen/qwen3-4b", "openai/gpt-oss-20b"
VISION = "qwen3-vl-4b"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
ADD = {
    "name": "add",
    "description": "Add",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
SUB = {**ADD, "name": "sub"}


def asked(content, model=TEXT, **more):
    messages = content if isinstance(content, list) and content and "role" in content[0] else None
    messages = messages or [{"role": "user", "content": content}]
    return {"model": model, "max_tokens": 1000, "messages": messages, **more}


async def create(http, content, model=TEXT, **more):
    status, answer = await http.post("/v1/messages", asked(content, model, **more))
    assert status == 200, answer
    return answer


async def stream(http, content, model=TEXT, **more):
    events = await http.events("/v1/messages", asked(content, model, stream=True, **more))
    assert all(data["type"] == name for name, data in events)
    return events


def said(message):
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def kinds(events):
    """Return the names, repeated deltas folded."""
    names = [name for name, _ in events]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


async def test_a_message_has_anthropics_shape(http):
    message = await create(http, "Hello", temperature=0.5, system="Be kind")
    assert re.fullmatch("msg_[0-9a-z]{24}", message["id"])
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", TEXT)
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert all(part in said(message) for part in ("Hello", "Be kind", "temperature=0.5"))
    assert message["usage"]["input_tokens"] > 0
    assert message["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("change", "reason", "sequence"),
    [
        ({"max_tokens": 2}, "max_tokens", None),
        ({"stop_sequences": ["nothing", "three"]}, "stop_sequence", "three"),
        ({"tools": [ADD], "tool_choice": {"type": "any"}}, "tool_use", None),
        ({}, "end_turn", None),
    ],
)
async def test_the_stop_reasons(http, change, reason, sequence):
    message = await create(http, "[[say=one two three]]", **change)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    last = (await stream(http, "[[say=one two three]]", **change))[-2][1]
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


async def test_the_documented_events_come_in_order(http):
    # Documented in anthropic-compat/messages.
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    events = await stream(http, "Hello")
    assert kinds(events) == ["message_start", *block, "message_delta", "message_stop"]
    started = events[0][1]["message"]
    assert (started["content"], started["stop_reason"], started["role"]) == ([], None, "assistant")
    assert started["usage"]["input_tokens"] > 0
    text = "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
    whole = await create(http, "Hello")
    assert text == said(whole)
    assert events[-2][1]["usage"] == whole["usage"]
    assert started["usage"]["input_tokens"] == whole["usage"]["input_tokens"]


async def test_thinking_is_a_block_of_its_own(http):
    events = await stream(http, "[[think=A]][[say=B]]", THINKING)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds(events) == ["message_start", *block, *block, "message_delta", "message_stop"]
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == ["thinking_delta", "signature_delta", "text_delta"]
    message = await create(http, "[[think=A]][[say=B]]", THINKING)
    thinking, text = message["content"]
    assert (thinking["type"], thinking["thinking"], text["text"]) == ("thinking", "A", "B")
    assert thinking["signature"] == deltas[1]["signature"]


@pytest.mark.parametrize(
    ("thinking", "thinks"), [({"type": "disabled"}, False), ({"type": "enabled"}, True), (None, True)]
)
async def test_thinking_can_be_switched(http, thinking, thinks):
    message = await create(http, "Hi", THINKING, thinking=thinking)
    assert (message["content"][0]["type"] == "thinking") is thinks


async def test_reasoning_may_stay_in_the_text(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(separate_reasoning="inline"))
    message = await create(http, "[[think=A]][[say=B]]", THINKING)
    assert [block["type"] for block in message["content"]] == ["text"]
    assert said(message) == "<think>A</think>B"


async def test_history_of_blocks(http):
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "First"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "Second"},
            ],
        },
        {"role": "user", "content": "Third"},
    ]
    system = [{"type": "text", "text": "Be kind", "cache_control": {"type": "ephemeral"}}]
    text = said(await create(http, messages, system=system))
    assert all(part in text for part in ("Be kind", "Third", "the last: “Second”", "1 assistant and 1 user"))
    assert "hm" not in text


async def test_a_system_message_is_taken_since_0_4_15(emulator, http):
    # bug-tracker#2204
    messages = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    assert "Be kind" in said(await create(http, messages))
    emulator.configure(messages_system_role=False)
    status, answer = await http.post("/v1/messages", asked(messages))
    expected = {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "Invalid discriminator value. Expected 'user' | 'assistant'",
        },
    }
    assert (status, answer) == (400, expected)


async def test_pictures_arrive(http, picture, data_url):
    _head, _, data = data_url(picture((12, 9), "blue")).partition(",")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    message = await create(http, [{"type": "text", "text": "What?"}, image], VISION)
    assert "Picture 1 is 12x9 pixels, PNG, mostly blue" in said(message)
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image]}
    use = {"type": "tool_use", "id": "1", "name": "add", "input": {}}
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    assert "Picture 1 is 12x9" in said(await create(http, history, VISION))
    for model, source in ((TEXT, image["source"]), (VISION, {"type": "url", "url": "https://example.org"})):
        status, answer = await http.post("/v1/messages", asked([{"type": "image", "source": source}], model))
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


async def test_a_tool_goes_round(http):
    prompt = 'Sum [[tool=add {"a": 2}]]'
    message = await create(http, prompt, tools=[ADD])
    use = message["content"][0]
    assert (use["type"], use["name"], use["input"]) == ("tool_use", "add", {"a": 2})
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "forty-two"}
    history = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [result]},
    ]
    assert "The tool answered: forty-two" in said(await create(http, history, tools=[ADD]))
    history[-1]["content"].append({"type": "text", "text": "Well?"})
    assert "“Well?”" in said(await create(http, history, tools=[ADD]))


async def test_streamed_tool_use_comes_in_pieces(http):
    events = await stream(http, 'x [[tool=add {"a": 20}]] [[tool=add {"a": 30}]]', tools=[ADD])
    starts = [data["content_block"] for name, data in events if name == "content_block_start"]
    assert [(start["type"], start["name"], start["input"]) for start in starts] == [
        ("tool_use", "add", {})
    ] * 2
    for index, value in enumerate((20, 30)):
        mine = [data["delta"] for _, data in events if data.get("index") == index and "delta" in data]
        assert json.loads("".join(delta["partial_json"] for delta in mine)) == {"a": value}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "auto"}, []),
        ({"type": "none"}, []),
        ({"type": "any"}, ["add"]),  # docs: anthropic-compat/messages
        ({"type": "tool", "name": "sub"}, ["sub"]),
    ],
)
async def test_tool_choice_decides(http, choice, names):
    message = await create(http, "Hello", tools=[ADD, SUB], tool_choice=choice)
    assert [block["name"] for block in message["content"] if block["type"] == "tool_use"] == names


@pytest.mark.parametrize(
    "change",
    [
        {"messages": None},
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": 5}]}
            ]
        },
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}]},
        {"max_tokens": None},
        {"max_tokens": "many"},
        {"system": 5},
        {"tools": 5},
        {"tools": [{"input_schema": {}}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tool_choice": "any"},
        {"tool_choice": {"type": "tool", "name": "none"}},
        {"model": "nobody/nothing"},
    ],
)
async def test_what_is_malformed_is_refused_in_anthropics_form(http, change):
    status, answer = await http.post("/v1/messages", {**asked("Hi"), **change})
    assert status == 400
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["message"]


async def test_max_tokens_may_be_optional(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(messages_max_tokens_required=False))
    await create(http, "Hi", max_tokens=None)


async def test_unknown_keys_do_no_harm(http):
    await create(http, "Hi", metadata={"user_id": "x"}, service_tier="auto", foo=1)


async def test_either_header_authenticates(make_lmstudio_emulator, connect):
    # Documented in anthropic-compat.
    emulator = await make_lmstudio_emulator(tokens=(TOKEN,))
    http = await connect(emulator)
    for headers in ({"x-api-key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
        status, _ = await http.post("/v1/messages", asked("Hi"), headers=headers)
        assert status == 200
        assert TOKEN not in repr(emulator.last)
    for headers in ({}, {"x-api-key": "lmstudio"}):
        status, answer = await http.post("/v1/messages", asked("Hi"), headers=headers)
        assert (status, answer["error"]["type"]) == (401, "authentication_error")
    status, _ = await http.get("/v1/models", headers={"x-api-key": TOKEN})
    assert status == 401


async def test_a_crash_has_the_observed_body(make_lmstudio_emulator, connect):
    # bug-tracker#1755
    http = await connect(await make_lmstudio_emulator(crash_after_tokens=3))
    body = {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "The model has crashed without additional information. (Exit code: null)",
        },
    }
    assert await http.post("/v1/messages", asked("Hi")) == (500, body)
    events = await http.events("/v1/messages", asked("Hi", stream=True))
    assert events[-1] == ("error", body)
    assert "message_stop" not in kinds(events)


async def test_overflow_has_its_forms(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(context_length=20)
    http = await connect(emulator)
    body = asked("word " * 50, stream=True)
    status, answer = await http.post("/v1/messages", body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    emulator.configure(overflow="in_stream")
    assert kinds(await http.events("/v1/messages", body)) == ["message_start", "error"]
    emulator.configure(overflow="silent")
    assert await http.events("/v1/messages", body) == []


async def test_a_failed_load_has_its_own_status(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(load_failure=True))
    status, answer = await http.post("/v1/messages", asked("Hi", stream=True))
    assert (status, answer["error"]["type"]) == (404, "not_found_error")


async def test_leaving_stops_the_work(emulator, http):
    body = asked("[[words=100000]]", max_tokens=200_000, stream=True)
    async with http.session.post("/v1/messages", json=body) as answer:
        await answer.content.readany()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert (record.reason, record.disconnected) == ("disconnected", True)


async def test_counting_tokens_is_no_route(http):
    # The documentation names one endpoint, /v1/messages.
    status, answer = await http.post("/v1/messages/count_tokens", asked("Hi"))
    assert (status, answer) == (
        200,
        {"error": "Unexpected endpoint or method. (POST /v1/messages/count_tokens)"},
    )
