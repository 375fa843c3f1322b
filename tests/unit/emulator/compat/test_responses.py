"""`POST /v1/responses`, whole answers and stored conversations, as a raw client sees them."""

import json
import re

import pytest

from lmbridge.emulator import ApiToken

TEXT, THINKING, GPT_OSS = "ibm/granite-4-micro", "qwen/qwen3-4b", "openai/gpt-oss-20b"
VISION = "qwen3-vl-4b"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
HUB = {"type": "mcp", "server_label": "hub", "server_url": "https://huggingface.co/mcp"}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}},
    "required": ["n"],
}


async def create(http, question, model=TEXT, **more):
    status, answer = await http.post("/v1/responses", {"model": model, "input": question, **more})
    assert status == 200, answer
    return answer


async def refusal(http, **change):
    status, answer = await http.post("/v1/responses", {"model": TEXT, "input": "Hi", **change})
    return status, answer["error"]


def said(response):
    parts = [item["content"][0]["text"] for item in response["output"] if item["type"] == "message"]
    return "".join(parts)


async def test_a_response_has_the_observed_shape(http):
    # bug-tracker#1188
    response = await create(http, "Hello", THINKING, temperature=0.5, instructions="Be kind")
    assert list(response)[:6] == ["id", "object", "created_at", "status", "model", "output"]
    assert re.fullmatch("resp_[0-9a-f]{48}", response["id"])
    assert (response["object"], response["status"], response["model"]) == ("response", "completed", THINKING)
    reasoning, message = response["output"]
    assert re.fullmatch("rs_[0-9a-z]{21}", reasoning["id"])
    assert reasoning["summary"] == []
    assert [part["type"] for part in reasoning["content"]] == ["reasoning_text"]
    assert re.fullmatch("msg_[0-9a-z]{21}", message["id"])
    assert (message["role"], message["status"]) == ("assistant", "completed")
    assert message["content"][0]["type"] == "output_text"
    assert all(part in said(response) for part in ("Hello", "Be kind", "temperature=0.5"))
    usage = response["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_tokens_details"]["reasoning_tokens"] < usage["output_tokens"]


async def test_a_response_repeats_what_was_asked(http):
    asked = {
        "instructions": "I",
        "metadata": {"a": "b"},
        "max_output_tokens": 50,
        "top_p": 0.9,
        "tools": [ADD],
    }
    response = await create(http, "Hello", **asked)
    assert {key: response[key] for key in asked} == asked
    plain = await create(http, "Hello")
    assert (plain["tools"], plain["metadata"], plain["store"]) == ([], {}, True)


async def test_a_full_budget_is_incomplete(http):
    response = await create(http, "[[words=50]]", max_output_tokens=5)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 5
    cut = await create(http, 'x [[tool=add {"a": 123456789}]]', tools=[ADD], max_output_tokens=3)
    assert [item["status"] for item in cut["output"]] == ["incomplete"]
    thought = await create(http, "[[thoughts=50]]", THINKING, max_output_tokens=6)
    assert [item["type"] for item in thought["output"]] == ["reasoning"]


@pytest.mark.parametrize(
    ("effort", "model", "reasons"),
    [("none", THINKING, False), ("medium", THINKING, True), (None, THINKING, True), ("high", TEXT, False)],
)
async def test_the_effort_switches_reasoning(http, effort, model, reasons):
    # bug-tracker#2057: reasoning.effort on this route
    response = await create(http, "Hi", model, reasoning={"effort": effort})
    assert ("reasoning" in [item["type"] for item in response["output"]]) is reasons


async def test_an_effort_the_model_lacks_falls_back_with_a_warning(emulator, http):
    await create(http, "Hi", THINKING, reasoning={"effort": "medium"})
    assert "Falling back to reasoning setting 'on'" in emulator.last.warnings[0]


async def test_gpt_oss_reasons_in_the_same_items(http):
    response = await create(http, "Hi", GPT_OSS)
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"]


@pytest.mark.parametrize(
    ("mode", "kinds", "text"),
    [
        ("auto", ["reasoning", "message"], "B"),
        ("inline", ["message"], "<think>A</think>B"),
        ("leaked", ["reasoning", "message"], "REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__B"),
    ],
)
async def test_reasoning_is_where_the_switch_puts_it(make_lmstudio_emulator, connect, mode, kinds, text):
    http = await connect(await make_lmstudio_emulator(separate_reasoning=mode))
    response = await create(http, "[[think=A]][[say=B]]", THINKING)
    assert [item["type"] for item in response["output"]] == kinds
    assert said(response).endswith(text)


# State


async def test_a_response_is_continued_and_branched(http):
    first = await create(http, "My name is Ada")
    for question in ("Who am I?", "What else?"):
        answer = await create(http, question, previous_response_id=first["id"])
        assert answer["previous_response_id"] == first["id"]
        assert "Before that came 1 assistant and 1 user messages" in said(answer)
    third = await create(http, "And?", previous_response_id=answer["id"])
    assert "2 assistant and 2 user" in said(third)


async def test_instructions_are_not_carried_over(http):
    # OpenAI's documentation of `instructions`
    first = await create(http, "Hi", instructions="Be kind")
    assert "Be kind" not in said(await create(http, "Hi", previous_response_id=first["id"]))


@pytest.mark.parametrize("store", [True, None])
async def test_what_is_not_stored_cannot_be_continued(http, store):
    kept = await create(http, "Hi", store=store)
    assert (
        await http.post("/v1/responses", {"model": TEXT, "input": "x", "previous_response_id": kept["id"]})
    )[0] == 200
    lost = await create(http, "Hi", store=False)
    status, error = await refusal(http, previous_response_id=lost["id"])
    assert (status, error["code"], error["param"]) == (
        400,
        "previous_response_not_found",
        "previous_response_id",
    )


async def test_a_conversation_can_go_on_between_the_two_stateful_routes(http):
    response = await create(http, "My name is Ada")
    body = {"model": TEXT, "input": "Who am I?", "previous_response_id": response["id"]}
    _, answer = await http.post("/api/v1/chat", body)
    assert "1 assistant and 1 user" in answer["output"][0]["content"]


# Input


async def test_a_whole_history_can_be_sent(http):
    items = [
        {"role": "developer", "content": "Be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "First"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Second"}]},
        {"role": "user", "content": "Third"},
    ]
    text = said(await create(http, items))
    assert all(part in text for part in ("Be kind", "Third", "the last: “Second”", "1 assistant and 1 user"))


async def test_pictures_and_text_mix(emulator, http, picture, data_url):
    # bug-tracker#1106: only older builds refuse it
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": data_url(picture((64, 48), "red"))},
    ]
    items = [{"role": "user", "content": content}]
    assert "Picture 1 is 64x48 pixels, PNG, mostly red" in said(await create(http, items, VISION))
    first = await create(http, items, VISION)
    again = said(await create(http, "And again?", VISION, previous_response_id=first["id"]))
    assert "Picture 1 is 64x48 pixels" in again
    assert (await refusal(http, input=items))[1]["message"].startswith("Model does not support images")
    emulator.configure(responses_images=False)
    assert (await refusal(http, model=VISION, input=items))[1]["code"] == "invalid_union"


@pytest.mark.parametrize(
    "value",
    [
        5,
        None,
        ["text"],
        [{"role": "stranger", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"type": "input_text"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"type": "item_reference", "id": "x"}],
        [{"type": "function_call", "name": "add", "arguments": "{}"}],
        [{"type": "function_call", "call_id": "1", "name": "add", "arguments": "{"}],
        [{"type": "function_call_output", "call_id": "1", "output": 5}],
        [{"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image"}]}],
    ],
)
async def test_malformed_input_has_the_observed_body(http, value):
    # bug-tracker#1106, #2200, docs#141
    expected = {
        "message": "Invalid type for 'input'.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "invalid_union",
    }
    assert await refusal(http, input=value) == (400, expected)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nobody/nothing"}, "model_not_found"),
        ({"tools": [ADD, {"type": "namespace"}]}, "invalid_string"),
        ({"tools": 5}, "invalid_type"),
        ({"tools": [{"type": "function"}]}, "invalid_type"),
        ({"tool_choice": {"type": "function", "name": "add"}}, "invalid_union"),
        ({"previous_response_id": "resp_unknown"}, "previous_response_not_found"),
    ],
)
async def test_refusals_are_objects(http, change, code):
    status, error = await refusal(http, **change)
    assert (status, error["code"], error["type"]) == (400, code, "invalid_request_error")


async def test_the_refused_tool_is_named(http):
    # bug-tracker#1810
    expected = {
        "message": "Invalid",
        "type": "invalid_request_error",
        "param": "tools.1.type",
        "code": "invalid_string",
    }
    assert await refusal(http, tools=[ADD, {"type": "namespace"}]) == (400, expected)


async def test_no_input_is_refused_and_unknown_keys_are_not(http):
    assert (await http.post("/v1/responses", {"model": TEXT}))[0] == 400
    await create(http, "Hi", truncation="auto", service_tier="auto", include=["x"], foo=1)


async def test_pictures_are_refused_as_objects_here(http):
    content = [{"type": "input_image", "image_url": "https://example.org/a.png"}]
    status, error = await refusal(http, model=VISION, input=[{"role": "user", "content": content}])
    assert (status, error["message"]) == (400, "'url' field must be a base64 encoded image.")


# Tools


async def test_a_function_is_called_and_its_output_used(http):
    prompt = 'Sum [[tool=add {"a": 2}]]'
    response = await create(http, prompt, tools=[ADD])
    call = response["output"][0]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "add", "completed")
    assert json.loads(call["arguments"]) == {"a": 2}
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "forty-two"}
    stateful = await create(http, [output], tools=[ADD], previous_response_id=response["id"])
    assert "The tool answered: forty-two" in said(stateful)
    whole = await create(http, [{"role": "user", "content": prompt}, call, output], tools=[ADD])
    assert said(whole) == said(stateful)


async def test_functions_are_called_in_parallel(http):
    prompt = 'Sum [[tool=add {"a": 1}]] [[tool=add {"a": 2}]]'
    calls = (await create(http, prompt, tools=[ADD]))["output"]
    assert [json.loads(call["arguments"])["a"] for call in calls] == [1, 2]
    outputs = [
        {
            "type": "function_call_output",
            "call_id": call["call_id"],
            "output": [{"type": "input_text", "text": t}],
        }
        for call, t in zip(calls, ("one", "two"), strict=True)
    ]
    answer = said(await create(http, [{"role": "user", "content": prompt}, *calls, *outputs], tools=[ADD]))
    assert "answered: one" in answer
    assert "answered: two" in answer


@pytest.mark.parametrize(("choice", "called"), [("required", True), ("auto", False), ("none", False)])
async def test_tool_choice_decides(http, choice, called):
    response = await create(http, "Hello", tools=[ADD], tool_choice=choice)
    assert (response["output"][0]["type"] == "function_call") is called


async def test_the_server_calls_mcp_tools_itself(http):
    response = await create(http, "use model_search please", tools=[HUB])
    listing, call, message = response["output"]
    assert (listing["type"], listing["tools"][0]["name"]) == ("mcp_list_tools", "model_search")
    assert (call["type"], call["name"], call["server_label"]) == ("mcp_call", "model_search", "hub")
    assert (call["status"], call["error"]) == ("completed", None)
    assert "model_search was run with" in call["output"]
    assert "The tool answered" in message["content"][0]["text"]
    later = await create(http, "And?", previous_response_id=response["id"])
    assert "2 assistant and 1 tool and 1 user" in said(later)


async def test_an_installed_server_needs_no_address(http):
    tool = {"type": "mcp", "server_label": "files"}
    response = await create(http, 'x [[tool=read_file {"path": "a.txt"}]]', tools=[tool])
    assert response["output"][1]["server_label"] == "files"


async def test_a_bad_call_of_an_mcp_tool_fails_and_the_model_goes_on(http):
    for prompt in ("[[tool=read_file {}]]", "[[tool=fly {}]]"):
        tools = [{"type": "mcp", "server_label": "files"}]
        _, call, message = (await create(http, f"x {prompt}", tools=tools))["output"]
        assert call["status"] == "failed"
        assert call["error"] in message["content"][0]["text"]


async def test_an_mcp_tool_that_names_no_known_server(http):
    # bug-tracker#1073
    status, error = await refusal(http, tools=[{"type": "mcp", "server_label": "home-assistant"}])
    assert error.pop("message").startswith(
        "Tool for MCP server 'home-assistant' requires a non-empty 'server_url' for a remote MCP server "
        "connection to be attempted."
    )
    assert (status, error) == (
        400,
        {"type": "external_connector_error", "param": "tools", "code": "http_error"},
    )


async def test_an_mcp_server_that_does_not_answer(http):
    tool = {**HUB, "server_url": "https://mcp.invalid/"}
    status, error = await refusal(http, tools=[tool])
    assert (status, error["type"], error["param"]) == (500, "external_connector_error", "tools")


async def test_mcp_needs_permission(make_lmstudio_emulator, connect):
    # bug-tracker#1168
    emulator = await make_lmstudio_emulator(tokens=(ApiToken(TOKEN, mcp=False),))
    http = await connect(emulator, headers={"Authorization": f"Bearer {TOKEN}"})
    expected = {
        "message": "Permission denied to use local MCP server 'files'. Ensure that the server configuration "
        "allows local integrations and that your API token has the necessary permissions.",
        "type": "invalid_request_error",
        "param": "tools",
        "code": None,
    }
    assert await refusal(http, tools=[{"type": "mcp", "server_label": "files"}]) == (403, expected)
    assert (await refusal(http, tools=[HUB]))[0] == 403
    emulator.configure(tokens=(), ephemeral_mcp_allowed=False)
    status, error = await refusal(http, tools=[HUB])
    assert (status, error["message"][:47]) == (403, "Permission denied to use remote MCP server 'hub")


# Structured output


async def test_structured_output_is_ignored_as_on_the_real_server(emulator, http):
    # bug-tracker#1396, #2403
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA}
    response = await create(http, "Who?", text={"format": form})
    assert response["text"] == {"format": form}
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(said(response))
    assert "text.format" in emulator.last.warnings[0]


async def test_structured_output_can_be_switched_on(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(responses_structured_output=True))
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA}
    assert json.loads(said(await create(http, "Who?", text={"format": form}))) == {"n": 7}
    assert isinstance(
        json.loads(said(await create(http, "W?", text={"format": {"type": "json_object"}}))), dict
    )
    assert said(await create(http, "Who?", text={"format": {"type": "text"}})).count("Who?")
    assert (await refusal(http, text={"format": {"type": "json_schema"}}))[1]["param"] == "text.format"


async def test_usage_may_be_zero(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(zero_usage=True))
    assert (await create(http, "Hi"))["usage"]["total_tokens"] == 0


async def test_errors_may_be_strings(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(string_errors=True))
    assert (await refusal(http, input=5)) == (400, "Invalid type for 'input'.")
