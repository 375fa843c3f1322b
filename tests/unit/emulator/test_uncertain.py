"""Switches of what nobody has published: turned on, they show on the wire."""

import asyncio
from pathlib import Path

import pytest

from lmbridge.emulator.switches import switches

TEXT, THINKING, SEEING = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
HELLO = {"clientIdentifier": "guest:me", "clientPasskey": "x", "authVersion": 1}


def native(**more):
    return {"model": TEXT, "input": "[[say=Hello.]]", **more}


def test_every_switch_is_turned_in_some_test():
    told = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert [switch.name for switch in switches() if switch.name not in told] == []


# -- routes and errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "status", "body"),
    [
        ("string", 200, "Unexpected endpoint or method. (GET /v9)"),
        ("object", 200, {"message": "Unexpected endpoint or method. (GET /v9)", "type": "invalid_request"}),
        ("not_found", 404, "Unexpected endpoint or method. (GET /v9)"),
    ],
)
async def test_an_unknown_route(emulator, http, form, status, body):
    emulator.configure(unknown_route=form)
    assert await http.get("/v9") == (status, {"error": body})


async def test_errors_of_the_native_route_can_be_strings(emulator, http):
    assert (await http.post("/api/v1/chat", {}))[1]["error"]["param"] == "model"
    emulator.configure(native_string_errors=True)
    assert (await http.post("/api/v1/chat", {}))[1] == {"error": '"model" is required'}


@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions"])
async def test_the_status_of_invalid_json(emulator, http, path):
    for status in (400, 500):
        emulator.configure(invalid_json_status=status)
        async with http.session.post(path, data=b"{") as response:
            assert response.status == status


async def test_the_status_and_text_of_an_unknown_model(emulator, http):
    body = {"model": "nobody/nothing", "input": "Hi"}
    status, answer = await http.post("/api/v1/chat", body)
    assert status == 400
    assert TEXT in answer["error"]["message"]
    emulator.configure(unknown_model_status=404, unknown_model_text="plain")
    status, answer = await http.post("/api/v1/chat", body)
    assert (status, answer["error"]["message"]) == (404, "Model not found.")
    assert answer["error"]["type"] == "model_not_found"
    status, answer = await http.post("/v1/chat/completions", {**body, "messages": []})
    assert status == 404
    assert TEXT in answer["error"]["message"], "the text of the compatible routes was published"
    emulator.configure(jit=False, unknown_model_status=None, loaded=(TEXT,))
    await http.post("/_emulator/reset", {"parts": ["instances"]})
    assert (await http.post("/api/v1/chat", body))[0] == 404


async def test_the_status_of_an_unknown_instance(emulator, http):
    for status in (404, 400):
        emulator.configure(unknown_instance_status=status)
        answered, answer = await http.post("/api/v1/models/unload", {"instance_id": "nobody"})
        assert (answered, answer["error"]["param"]) == (status, "instance_id")
        assert "nobody" in answer["error"]["message"]
    emulator.configure(unknown_model_text="plain")
    _, answer = await http.post("/api/v1/models/unload", {"instance_id": "nobody"})
    assert answer["error"]["message"] == "Model instance not found."


async def test_the_status_of_a_failed_load(emulator, http):
    for status in (404, 500):
        emulator.configure(load_failure=True, load_failure_status=status)
        assert (await http.post("/api/v1/models/load", {"model": TEXT}))[0] == status
    message = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
    assert (await http.post("/v1/chat/completions", message))[0] == 404


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/models/load", "/api/v1/models/unload"])
async def test_the_native_routes_need_not_be_strict(make_lmstudio_emulator, connect, path):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,))
    http = await connect(emulator)
    body = {**(native() if path.endswith("chat") else {"model": TEXT}), "stop": "x"}
    body = {"instance_id": TEXT, "stop": "x"} if path.endswith("unload") else body
    status, answer = await http.post(path, body)
    assert (status, answer["error"]["code"]) == (400, "unrecognized_keys")
    emulator.configure(strict_keys=False)
    assert (await http.post(path, body))[0] == 200


async def test_the_compatible_route_can_be_strict(emulator, http):
    assert await http.chat("Hi", enableThinking=False)
    emulator.configure(compat_strict_keys=True)
    body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}], "enableThinking": False}
    status, answer = await http.post("/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "unrecognized_keys")
    known = {"temperature": 0.5, "stream_options": None, "ttl": 5, "logit_bias": {}, "tool_choice": "auto"}
    assert await http.chat("Hi", **known)


async def test_the_temperature_may_have_no_limit(emulator, http):
    assert (await http.post("/api/v1/chat", native(temperature=1.5)))[0] == 400
    emulator.configure(temperature_limit=None)
    assert (await http.post("/api/v1/chat", native(temperature=1.5)))[0] == 200
    assert (await http.post("/api/v1/chat", native(temperature=-1)))[0] == 400


async def test_pages_of_other_origins(emulator, http):
    page = {"Origin": "http://example.com", "Access-Control-Request-Headers": "authorization"}
    async with http.session.options("/v1/models", headers=page) as response:
        assert "Access-Control-Allow-Origin" not in response.headers
    emulator.configure(cors=True, tokens=("sk-lm-ABCDEFGH:abcdefghij0123456789",))
    async with http.session.options("/v1/models", headers=page) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Headers"] == "authorization"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
    async with http.session.get("/v1/models", headers=page) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (401, "*")
    async with http.session.get("/v1/models") as response:
        assert "Access-Control-Allow-Origin" not in response.headers
    async with http.session.get("/_emulator", headers=page) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


# -- streams -------------------------------------------------------------------------------------------------


async def test_events_that_only_some_servers_have(emulator, http):
    body = native(
        input="[[tool=model_search {}]]",
        integrations=[{"type": "ephemeral_mcp", "server_label": "hub", "server_url": "https://example.com"}],
        stream=True,
    )
    emulator.configure(tool_call_name_event=False)
    plain = [name for name, _ in await http.events("/api/v1/chat", body)]
    assert "tool_call.start" in plain
    assert not {"tool_call.name", "quantum.start"} & set(plain)
    emulator.configure(tool_call_name_event=True, unknown_event=True)
    events = await http.events("/api/v1/chat", body)
    names = [name for name, _ in events]
    assert names[names.index("tool_call.start") + 1] == "tool_call.name"
    assert "quantum.start" in names
    assert all(data["type"] == name for name, data in events)


async def test_the_order_of_the_first_events(emulator, http):
    body = native(stream=True)
    assert next(name for name, _ in await http.events("/api/v1/chat", body)) == "chat.start"
    emulator.unload(TEXT)
    emulator.configure(chat_start_first=False)
    names = [name for name, _ in await http.events("/api/v1/chat", body)]
    assert names[0] == "model_load.start"
    assert names[names.index("model_load.end") + 1] == "chat.start"


async def test_the_prompt_is_read_again_after_a_tool(emulator, http):
    body = native(input='[[tool=read_file {"path": "a"}]]', integrations=["mcp/files"], stream=True)
    for again in (True, False):
        emulator.configure(prompt_after_tool=again)
        names = [name for name, _ in await http.events("/api/v1/chat", body)]
        assert names.count("tool_call.success") == 1
        assert names.count("prompt_processing.start") == 1 + again


async def test_local_mcp_servers_may_be_allowed(emulator, http):
    server = {"type": "ephemeral_mcp", "server_label": "hub", "server_url": "http://127.0.0.1:9"}
    status, answer = await http.post("/api/v1/chat", native(integrations=[server]))
    assert status >= 400
    assert "local" in answer["error"]["message"]
    emulator.configure(ephemeral_mcp_public_only=False)
    assert (await http.post("/api/v1/chat", native(integrations=[server])))[0] == 200


async def test_a_stream_may_end_with_its_error(emulator, http):
    body = native(stream=True)
    emulator.configure(crash_after_tokens=1)
    names = [name for name, _ in await http.events("/api/v1/chat", body)]
    assert names[-2:] == ["error", "chat.end"]
    emulator.configure(chat_end_after_error=False)
    names = [name for name, _ in await http.events("/api/v1/chat", body)]
    assert names[-1] == "error"
    assert "chat.end" not in names


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("message", {"message": "The model has crashed without additional information. (Exit code: null)"}),
        ("string", "The model has crashed without additional information. (Exit code: null)"),
        (
            "full",
            {
                "message": "The model has crashed without additional information. (Exit code: null)",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
        ),
    ],
)
async def test_an_error_inside_a_stream(emulator, http, form, error):
    emulator.configure(crash_after_tokens=1, stream_error=form)
    body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    events = await http.events("/v1/chat/completions", body)
    assert events[-1] == ("error", {"error": error})


async def test_where_the_usage_of_a_stream_is(emulator, http):
    body = {
        "model": TEXT,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    own = [data for _, data in await http.events("/v1/chat/completions", body)]
    assert own[-2]["choices"] == []
    assert own[-2]["usage"]["total_tokens"] > 0
    assert "usage" not in own[-3]
    emulator.configure(usage_chunk="final")
    final = [data for _, data in await http.events("/v1/chat/completions", body)]
    assert final[-2]["choices"][0]["finish_reason"] == "stop"
    assert final[-2]["usage"]["total_tokens"] > 0


async def test_leaked_reasoning_with_a_marker_at_its_start(emulator, http):
    emulator.configure(separate_reasoning="leaked_inline")
    content = (await http.chat("[[think=Hm]] [[say=Yes]]", THINKING))["choices"][0]["message"]["content"]
    assert content.startswith("Hm__LM_STUDIO_INTERNAL")
    emulator.configure(leaked_start_marker=True)
    content = (await http.chat("[[think=Hm]] [[say=Yes]]", THINKING))["choices"][0]["message"]["content"]
    before, middle, after = content.split("__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_")
    assert not before
    assert middle.startswith("START_")
    assert after.startswith("END_")


# -- the emulator's own --------------------------------------------------------------------------------------


async def test_into_how_many_steps_things_are_divided(emulator, http):
    emulator.configure(prompt_steps=2, download_steps=2)
    events = await http.events("/api/v1/chat", native(stream=True))
    parts = [data["progress"] for name, data in events if name == "prompt_processing.progress"]
    assert parts == [0.0, 0.5, 1.0]
    gate = emulator.gates.hold("downloading", after=1)
    _, job = await http.post("/api/v1/models/download", {"model": "mistralai/ministral-3-3b"})
    await gate.reached()
    _, answer = await http.get(f"/api/v1/models/download/status/{job['job_id']}")
    assert answer["downloaded_bytes"] == answer["total_size_bytes"] // 2
    gate.release()


async def test_what_is_remembered_can_be_limited_at_any_time(emulator, http):
    for _ in range(3):
        await http.chat("Hi")
    emulator.configure(journal_limit=2)
    assert [record.number for record in emulator.requests] == [2, 3]
    emulator.configure(journal_bytes=1)
    assert [record.number for record in emulator.requests] == [3]


# -- loading -------------------------------------------------------------------------------------------------


async def test_a_load_may_take_more_than_is_documented(emulator, http):
    body = {"model": TEXT, "parallel": 2, "ttl": 60}
    assert (await http.post("/api/v1/models/load", body))[1]["error"]["param"] == "parallel"
    emulator.configure(load_takes_parallel=True)
    assert (await http.post("/api/v1/models/load", body))[1]["error"]["param"] == "ttl"
    emulator.configure(load_takes_ttl=True)
    assert (await http.post("/api/v1/models/load", body))[0] == 200
    (instance,) = emulator.instances
    assert (instance.config["parallel"], instance.ttl_s) == (2, 60)


async def test_another_context_than_the_loaded_one(emulator, http):
    await http.post("/api/v1/models/load", {"model": TEXT, "context_length": 2048})
    body = native(context_length=1024)
    assert (await http.post("/api/v1/chat", body))[1]["model_instance_id"] == TEXT
    emulator.configure(context_mismatch="refused")
    status, answer = await http.post("/api/v1/chat", body)
    assert (status, answer["error"]["param"]) == (400, "context_length")
    assert (await http.post("/api/v1/chat", native(context_length=2048)))[0] == 200
    emulator.configure(context_mismatch="loaded_again")
    assert (await http.post("/api/v1/chat", body))[1]["model_instance_id"] == f"{TEXT}:2"
    assert [instance.context_length for instance in emulator.instances] == [2048, 1024]


async def test_a_ttl_may_be_ignored(emulator, http):
    await http.chat("Hi", ttl=5)
    assert emulator.instances[0].ttl_s == 5
    emulator.unload(TEXT)
    emulator.configure(ttl_ignored=True)
    await http.chat("Hi", ttl=5)
    assert emulator.instances[0].ttl_s == 3600


async def test_auto_evict_may_let_a_load_go_on(emulator, http):
    for stops in (True, False):
        await http.post("/_emulator/reset", {"parts": ["instances"]})
        emulator.configure(evict_loading=stops)
        gate = emulator.gates.hold("loading", after=1, model=TEXT)
        body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
        task = asyncio.create_task(http.post("/v1/chat/completions", body))
        await gate.reached()
        await http.chat("Hi", THINKING)
        gate.release()
        status, answer = await task
        assert status == (500 if stops else 200)
        assert ("canceled" in str(answer)) is stops
        assert [instance.id for instance in emulator.instances] == [THINKING if stops else TEXT]


async def test_guardrails_refuse_what_does_not_fit(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(memory_bytes=5_000_000_000)
    http = await connect(emulator)
    assert (await http.post("/api/v1/models/load", {"model": TEXT}))[0] == 200
    status, answer = await http.post("/api/v1/models/load", {"model": THINKING})
    assert status == 404
    assert "insufficient system resources" in answer["error"]["message"]
    socket = await http.socket("/llm")
    await socket.ask(HELLO)
    ask = {"type": "rpcCall", "endpoint": "estimateModelUsage", "callId": 1}
    for key, fits in ((TEXT, True), (THINKING, False)):
        parameter = {"modelKey": key, "loadConfigStack": {"layers": []}}
        frame = await socket.ask({**ask, "parameter": parameter})
        assert frame["result"]["passesGuardrails"] is fits
    emulator.unload(TEXT)
    assert (await http.post("/api/v1/models/load", {"model": THINKING}))[0] == 200


# -- generating ----------------------------------------------------------------------------------------------


async def test_a_queue_may_be_full(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(parallel=1, queue_limit=1, loaded=(TEXT,))
    http = await connect(emulator)
    gate = emulator.gates.hold("answering")
    first = asyncio.create_task(http.chat("One"))
    await gate.reached()
    second = asyncio.create_task(http.chat("Two"))
    await emulator.wait_for(lambda e: e.last.phase == "queued" and len(e.requests) == 2)
    third = {"model": TEXT, "messages": [{"role": "user", "content": "Three"}]}
    status, answer = await http.post("/v1/chat/completions", third)
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    gate.release()
    await asyncio.gather(first, second)


async def test_two_answers_at_once_may_crash_the_engine(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,), crash_in_parallel=True)
    http = await connect(emulator)
    assert await http.chat("alone")
    gate = emulator.gates.hold("answering")
    body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
    first = asyncio.create_task(http.post("/v1/chat/completions", body))
    await gate.reached()
    for answered in (await http.post("/v1/chat/completions", body), await first):
        assert answered[0] == 500
        assert "has crashed" in answered[1]["error"]
    assert emulator.instances == []
    gate.release()


async def test_requests_with_pictures_may_stall_each_other(
    make_lmstudio_emulator, connect, picture, data_url
):
    emulator = await make_lmstudio_emulator(loaded=(SEEING,), vision_stalls=True)
    http = await connect(emulator)
    image = {"type": "image", "data_url": data_url(picture((64, 48)))}
    body = {"model": SEEING, "input": [{"type": "text", "content": "What?"}, image]}
    gate = emulator.gates.hold("answering", after=1)
    first = asyncio.create_task(http.post("/api/v1/chat", body))
    await gate.reached()
    second = asyncio.create_task(http.post("/api/v1/chat", body))
    await emulator.wait_for(lambda e: e.last.phase == "queued" and len(e.requests) == 2)
    words = asyncio.create_task(http.chat("Hi", SEEING))
    await gate.reached(2)
    assert [record.phase for record in emulator.requests] == ["answering", "queued", "answering"]
    gate.release()
    assert [status for status, _ in await asyncio.gather(first, second)] == [200, 200]
    await words


async def test_embeddings_side_by_side_may_hang(emulator, http):
    emulator.configure(parallel_embeddings_hang=True)
    body = {"model": "text-embedding-nomic-embed-text-v1.5", "input": "a"}
    assert (await http.post("/v1/embeddings", body))[0] == 200
    gate = emulator.gates.hold("embedding")
    first = asyncio.create_task(http.post("/v1/embeddings", body))
    await gate.reached()
    second = asyncio.create_task(http.post("/v1/embeddings", body))
    await gate.reached(2)
    gate.release()
    assert (await first)[0] == 200
    assert not second.done()
    second.cancel()
    await emulator.wait_for(lambda e: e.last.disconnected)
    assert (await http.post("/v1/embeddings", body))[0] == 200


async def test_some_models_cannot_be_told_to_stop_thinking(emulator, http):
    body = {"model": THINKING, "input": "Hi", "reasoning": "off"}
    assert [item["type"] for item in (await http.post("/api/v1/chat", body))[1]["output"]] == ["message"]
    emulator.configure(thinking_stuck=True)
    _, answer = await http.post("/api/v1/chat", body)
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]
    _, answer = await http.post("/api/v1/chat", native())
    assert [item["type"] for item in answer["output"]] == ["message"]


@pytest.mark.parametrize(
    ("mode", "status", "told"),
    [
        ("refuses", 400, "does not support images"),
        ("engine", 500, "image input is not supported"),
        ("ignores", 200, "You said"),
    ],
)
async def test_a_picture_for_a_model_without_eyes(emulator, http, picture, data_url, mode, status, told):  # noqa: PLR0917
    emulator.configure(blind_model=mode)
    item = {"type": "image", "data_url": data_url(picture((64, 48)))}
    words = {"type": "text", "content": "What is it?"}
    answered, answer = await http.post("/api/v1/chat", {"model": TEXT, "input": [words, item]})
    assert answered == status
    assert told in str(answer)
    assert "Picture 1" not in str(answer)
    if mode == "ignores":
        assert answer["stats"]["input_tokens"] < 100


async def test_a_prediction_may_end_with_an_error_when_its_model_goes(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,))
    http = await connect(emulator)
    socket = await http.socket("/llm")
    await socket.ask(HELLO)
    for way, last in (("stop_reason", "success"), ("error", "channelError")):
        await http.post("/_emulator/reset", {"parts": ["instances"]})
        emulator.configure(unload_while_running=way)
        gate = emulator.gates.hold("answering", after=1)
        await socket.socket.send_json(prediction(way))
        await gate.reached()
        emulator.unload(TEXT)
        packet = (await socket.until(last))[-1]
        gate.release()
        if way == "error":
            assert packet["error"]["displayData"]["code"] == "generic.specificModelUnloaded"
        else:
            assert packet["stats"]["stopReason"] == "modelUnloaded"
            assert (await socket.receive())["type"] == "channelClose"


def prediction(text, channel=1):
    history = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    parameter = {
        "modelSpecifier": {"type": "query", "query": {"identifier": TEXT}},
        "history": history,
        "predictionConfigStack": {"layers": []},
    }
    return {
        "type": "channelCreate",
        "endpoint": "predict",
        "channelId": channel,
        "creationParameter": parameter,
    }


async def test_a_reasoning_type_that_nobody_knows(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,), unknown_reasoning_type=True)
    http = await connect(emulator)
    socket = await http.socket("/llm")
    await socket.ask(HELLO)
    await socket.socket.send_json(prediction("Hi"))
    packets = await socket.until("success")
    kinds = {packet["fragment"]["reasoningType"] for packet in packets if packet["type"] == "fragment"}
    assert kinds == {"quantumThought"}


async def test_packets_and_reasons_of_a_newer_server(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,), unknown_packet=True, unknown_stop_reason=True)
    http = await connect(emulator)
    socket = await http.socket("/llm")
    await socket.ask(HELLO)
    await socket.socket.send_json(prediction("Hi"))
    packets = await socket.until("success")
    assert "quantumProgress" in [packet["type"] for packet in packets]
    assert packets[-1]["stats"]["stopReason"] == "budgetReached"


# -- websockets ----------------------------------------------------------------------------------------------


async def test_clients_without_a_guest_prefix_may_be_refused(emulator, http):
    bare = {**HELLO, "clientIdentifier": "0b1c"}
    assert (await (await http.socket("/llm")).ask(bare))["success"] is True
    emulator.configure(guest_prefix_needed=True)
    answer = await (await http.socket("/llm")).ask(bare)
    assert answer["success"] is False
    assert isinstance(answer["error"], str)
    assert (await (await http.socket("/llm")).ask(HELLO))["success"] is True


async def test_in_whose_words_a_websocket_is_refused(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(tokens=("sk-lm-ABCDEFGH:abcdefghij0123456789",))
    http = await connect(emulator)
    _, told = await http.get("/v1/models")
    wrong = {**HELLO, "clientIdentifier": "ABCDEFGX"}
    short = [(await (await http.socket("/llm")).ask(hello))["error"] for hello in (HELLO, wrong)]
    assert short[0].endswith("none was provided")
    assert short[1] == "Invalid LM Studio API token."
    emulator.configure(socket_refusal="http")
    assert (await (await http.socket("/llm")).ask(HELLO))["error"] == told["error"]["message"]
