"""`POST /api/v1/chat`."""

import hashlib

import pytest

TEXT, THINKING, GPT_OSS, BOTH = (
    "ibm/granite-4-micro",
    "qwen/qwen3-4b",
    "openai/gpt-oss-20b",
    "google/gemma-4-26b-a4b",
)
VISION = "qwen3-vl-4b"


def folded(events, kind):
    return "".join(data["content"] for name, data in events if name == f"{kind}.delta")


async def test_the_stream_of_a_model_loaded_on_request_has_every_event_in_order(http):
    events = await http.events("/api/v1/chat", {"model": THINKING, "input": "Hello", "stream": True})
    names = [name for name, _ in events]
    assert all(data["type"] == name for name, data in events)
    assert list(dict.fromkeys(names)) == [
        "chat.start",
        "model_load.start",
        "model_load.progress",
        "model_load.end",
        "prompt_processing.start",
        "prompt_processing.progress",
        "prompt_processing.end",
        "reasoning.start",
        "reasoning.delta",
        "reasoning.end",
        "message.start",
        "message.delta",
        "message.end",
        "chat.end",
    ]
    for kind in ("model_load", "prompt_processing"):
        parts = [data["progress"] for name, data in events if name == f"{kind}.progress"]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        assert len(parts) >= 4
    result = events[-1][1]["result"]
    assert result["model_instance_id"] == THINKING
    assert [item["type"] for item in result["output"]] == ["reasoning", "message"]
    assert result["output"][0]["content"] == folded(events, "reasoning")
    assert result["output"][1]["content"] == folded(events, "message")
    assert "Hello" in result["output"][1]["content"]
    deltas = sum(name in ("reasoning.delta", "message.delta") for name in names)
    assert result["stats"]["total_output_tokens"] == deltas + 2  # and the two tags
    assert result["stats"]["reasoning_output_tokens"] == names.count("reasoning.delta") + 2
    assert result["stats"]["model_load_time_seconds"] > 0
    assert len(result["response_id"]) == len("resp_") + 48


async def test_the_whole_answer_is_the_folded_stream(http):
    body = {"model": THINKING, "input": "Same", "store": False}
    events = await http.events("/api/v1/chat", {**body, "stream": True})
    status, answer = await http.post("/api/v1/chat", body)
    assert status == 200
    assert answer["output"] == events[-1][1]["result"]["output"]
    assert "response_id" not in answer
    assert "model_load_time_seconds" not in answer["stats"]


async def test_pictures_arrive_whole(http, picture, data_url):
    red, blue = picture((64, 48), "red"), picture((10, 20), "blue", "JPEG")
    items = [
        {"type": "text", "content": "Compare"},
        {"type": "image", "data_url": data_url(red)},
        {"type": "image", "data_url": data_url(blue, "jpeg")},
    ]
    _, answer = await http.post("/api/v1/chat", {"model": VISION, "input": items})
    text = answer["output"][0]["content"]
    assert (
        f"Picture 1 is 64x48 pixels, PNG, mostly red, fingerprint {hashlib.sha256(red).hexdigest()[:12]}"
        in text
    )
    assert (
        f"Picture 2 is 10x20 pixels, JPEG, mostly blue, fingerprint {hashlib.sha256(blue).hexdigest()[:12]}"
        in text
    )


async def test_every_option_shows_in_the_answer(http):
    options = {"temperature": 0.3, "top_p": 0.9, "min_p": 0.1, "top_k": 20, "repeat_penalty": 1.2}
    body = {"model": TEXT, "input": "Hi", "system_prompt": "Be kind", "max_output_tokens": 99, **options}
    _, answer = await http.post("/api/v1/chat", body)
    text = answer["output"][0]["content"]
    assert all(f"{key}={value}" in text for key, value in options.items())
    assert "max_tokens=99" in text
    assert "Be kind" in text


async def test_max_output_tokens_is_kept_to_the_token(http):
    _, answer = await http.post(
        "/api/v1/chat", {"model": TEXT, "input": "[[words=50]]", "max_output_tokens": 7}
    )
    assert answer["stats"]["total_output_tokens"] == 7
    assert len(answer["output"][0]["content"].split()) < 50


async def test_a_chat_is_continued_and_branched(http):
    _, first = await http.post(
        "/api/v1/chat", {"model": TEXT, "input": "My name is Ada", "system_prompt": "Be kind"}
    )
    for question in ("Who am I?", "What else?"):
        body = {"model": TEXT, "input": question, "previous_response_id": first["response_id"]}
        _, answer = await http.post("/api/v1/chat", body)
        text = answer["output"][0]["content"]
        assert "Before that came 1 assistant and 1 user messages" in text
        assert "Be kind" in text
        assert question in text
    assert answer["stats"]["input_tokens"] > first["stats"]["input_tokens"]


async def test_a_repeated_system_prompt_is_an_error_where_the_template_forbids_it(
    make_lmstudio_emulator, connect
):
    http = await connect(await make_lmstudio_emulator(repeated_system_prompt_fails=True))
    _, first = await http.post("/api/v1/chat", {"model": TEXT, "input": "Hi", "system_prompt": "S"})
    body = {"model": TEXT, "input": "Hi", "system_prompt": "S", "previous_response_id": first["response_id"]}
    status, answer = await http.post("/api/v1/chat", body)
    assert status == 500
    assert "got system" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        (
            {"model": None},
            400,
            {
                "type": "invalid_request",
                "message": '"model" is required',
                "code": "missing_required_parameter",
                "param": "model",
            },
        ),
        (
            {"input": [{"type": "message", "content": "x"}]},
            400,
            {
                "message": "Invalid discriminator value. Expected 'text' | 'image'",
                "type": "invalid_request",
                "code": "invalid_union",
                "param": "input",
            },
        ),
        (
            {"stop": ["x"]},
            400,
            {
                "message": "Unrecognized key(s) in object: 'stop'",
                "type": "invalid_request",
                "code": "unrecognized_keys",
                "param": "stop",
            },
        ),
        (
            {"model": GPT_OSS, "reasoning": "on"},
            400,
            {
                "message": "Reasoning setting 'on' is not supported by model 'openai/gpt-oss-20b'. "
                "Supported settings: 'low', 'medium', 'high'.",
                "type": "invalid_request",
                "param": "reasoning",
                "code": "invalid_value",
            },
        ),
        (
            {"reasoning": "off"},
            400,
            {
                "message": "Model 'ibm/granite-4-micro' does not expose reasoning configuration.",
                "type": "invalid_request",
                "param": "reasoning",
                "code": "invalid_value",
            },
        ),
    ],
)
async def test_refusals_have_the_observed_bodies(http, change, status, error):
    body = {"model": TEXT, "input": "Hi", **change}
    assert await http.post("/api/v1/chat", body) == (status, {"error": error})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": [{"type": "text", "text": "x"}]}, "input.0.content"),
        ({"input": [{"type": "image", "data_url": "https://example.org/x.png"}]}, "input"),
        ({"input": 5}, "input"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"context_length": 0}, "context_length"),
        ({"stream": "yes"}, "stream"),
        ({"previous_response_id": "nonsense"}, "previous_response_id"),
        ({"previous_response_id": "resp_unknown"}, "previous_response_id"),
        ({"reasoning": "much"}, "reasoning"),
        ({"integrations": "mcp/files"}, "integrations"),
        ({"integrations": [{"type": "other"}]}, "integrations"),
        ({"model": "nobody/nothing"}, "model"),
        ({"model": "text-embedding-nomic-embed-text-v1.5"}, "model"),
    ],
)
async def test_more_refusals_name_their_field(http, change, param):
    status, answer = await http.post("/api/v1/chat", {"model": TEXT, "input": "Hi", **change})
    assert 400 <= status < 500
    assert answer["error"]["param"] == param


async def test_a_body_that_is_no_json_is_refused(http):
    async with http.session.post("/api/v1/chat", data=b"{no") as response:
        assert response.status == 400
        assert "Invalid JSON" in (await response.json())["error"]["message"]


async def test_a_picture_for_a_model_without_eyes_is_refused(http, picture, data_url):
    items = [{"type": "image", "data_url": data_url(picture((4, 4)))}]
    status, answer = await http.post("/api/v1/chat", {"model": TEXT, "input": items})
    assert status == 400
    assert "does not support images" in answer["error"]["message"]


@pytest.mark.parametrize(("effort", "more"), [("low", "medium"), ("medium", "high")])
async def test_more_effort_is_more_reasoning(http, effort, more):
    counts = []
    for value in (effort, more):
        body = {"model": GPT_OSS, "input": "Think", "reasoning": value}
        _, answer = await http.post("/api/v1/chat", body)
        counts.append(answer["stats"]["reasoning_output_tokens"])
    assert counts[0] < counts[1]


async def test_reasoning_off_is_off(http):
    _, answer = await http.post("/api/v1/chat", {"model": THINKING, "input": "Think", "reasoning": "off"})
    assert [item["type"] for item in answer["output"]] == ["message"]
    assert answer["stats"]["reasoning_output_tokens"] == 0


async def test_the_server_runs_the_tools_of_an_integration(http):
    prompt = 'Look [[tool=browser_navigate {"url": "https://example.org"}]]'
    body = {"model": TEXT, "input": prompt, "integrations": ["mcp/playwright"], "stream": True}
    events = await http.events("/api/v1/chat", body)
    stages = [(name, data) for name, data in events if name.startswith("tool_call.")]
    assert [name for name, _ in stages] == [
        "tool_call.start",
        "tool_call.name",  # in no documentation, but seen: bug-tracker#1880
        "tool_call.arguments",
        "tool_call.success",
    ]
    success = stages[-1][1]
    assert success["arguments"] == {"url": "https://example.org"}
    assert success["provider_info"] == {"type": "plugin", "plugin_id": "mcp/playwright"}
    output = events[-1][1]["result"]["output"]
    assert [item["type"] for item in output] == ["tool_call", "message"]
    assert "browser_navigate was run with" in output[1]["content"]
    assert [name for name, _ in events].count("prompt_processing.start") == 2


async def test_an_ephemeral_server_names_itself(http):
    server = {"type": "ephemeral_mcp", "server_label": "hf", "server_url": "https://huggingface.co/mcp"}
    body = {"model": TEXT, "input": "use model_search please", "integrations": [server]}
    _, answer = await http.post("/api/v1/chat", body)
    assert answer["output"][0]["provider_info"] == {"type": "ephemeral_mcp", "server_label": "hf"}
    server["server_url"] = "http://localhost:3000/mcp"
    status, answer = await http.post("/api/v1/chat", body)
    assert (status, answer["error"]["type"]) == (400, "mcp_connection_error")


async def test_a_tool_that_no_server_has_is_an_invalid_call(http):
    body = {"model": TEXT, "input": "[[tool=fly {}]]", "integrations": ["mcp/files"], "stream": True}
    events = await http.events("/api/v1/chat", body)
    failure = next(data for name, data in events if name == "tool_call.failure")
    assert failure["metadata"] == {"type": "invalid_name", "tool_name": "fly"}
    assert events[-1][1]["result"]["output"][0]["type"] == "invalid_tool_call"


async def test_a_dead_plugin_is_an_error_event_and_then_the_end(http):
    body = {"model": TEXT, "input": "Hi", "integrations": ["mcp/none"], "stream": True}
    events = await http.events("/api/v1/chat", body)
    assert [name for name, _ in events][-2:] == ["error", "chat.end"]
    assert events[-2][1]["error"]["type"] == "plugin_connection_error"


async def test_a_crash_is_reported_with_what_was_generated(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(crash_after_tokens=5)
    http = await connect(emulator)
    events = await http.events("/api/v1/chat", {"model": TEXT, "input": "Hi", "stream": True})
    assert [name for name, _ in events][-2:] == ["error", "chat.end"]
    assert "The model has crashed" in events[-2][1]["error"]["message"]
    assert events[-1][1]["result"]["output"][0]["content"] == folded(events, "message") != ""
    assert emulator.instances == []
    assert emulator.last.failed


async def test_a_failing_stream_may_end_after_its_start_and_tell_only_without_stream(
    make_lmstudio_emulator, connect
):
    http = await connect(await make_lmstudio_emulator(load_failure=True, failure_ends_after_start=True))
    events = await http.events("/api/v1/chat", {"model": TEXT, "input": "Hi", "stream": True})
    assert {name for name, _ in events} <= {"chat.start", "model_load.start", "model_load.progress"}
    status, answer = await http.post("/api/v1/chat", {"model": TEXT, "input": "Hi"})
    assert status == 404
    assert "insufficient system resources" in answer["error"]["message"]


async def test_the_connection_may_stay_open_after_the_end(make_lmstudio_emulator, connect, parse_events):
    emulator = await make_lmstudio_emulator(open_after_end=True)
    http = await connect(emulator)
    body = {"model": TEXT, "input": "Hi", "stream": True}
    async with http.session.post("/api/v1/chat", json=body) as response:
        text = ""
        while "chat.end" not in text or not text.endswith("\n\n"):
            text += (await response.content.readany()).decode()
        assert parse_events(text)[-1][0] == "chat.end"
        assert not response.content.at_eof()
    record = await emulator.wait_for(lambda e: e.last.disconnected and e.last)
    assert record.finished


@pytest.mark.parametrize("style", ["0.4", "0.3", "mlx", "llama-server"])
async def test_a_prompt_beyond_the_context_is_refused_in_the_engines_words(
    make_lmstudio_emulator, connect, style
):
    http = await connect(await make_lmstudio_emulator(context_length=20, overflow_text=style))
    status, answer = await http.post("/api/v1/chat", {"model": TEXT, "input": "word " * 50})
    assert status == 400
    words = {
        "0.4": "n_keep",
        "0.3": "Trying to keep",
        "mlx": "exceeded",
        "llama-server": "exceed_context_size",
    }
    assert words[style] in answer["error"]["message"]


async def test_an_old_server_knows_nothing_of_this(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(old_server=True))
    message = "Unexpected endpoint or method. (GET /api/v1/models)"
    assert await http.get("/api/v1/models") == (200, {"error": message})
    assert (await http.get("/v1/models"))[1]["object"] == "list"
