"""The websockets frame by frame, and what only a raw client can show."""

import asyncio

import aiohttp
import pytest

TEXT, THINKING = "ibm/granite-4-micro", "qwen/qwen3-4b"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__"
GUEST = {"authVersion": 1, "clientIdentifier": "guest:1", "clientPasskey": "secret"}


async def connected(http, namespace="llm", auth=GUEST):
    socket = await http.socket(f"/{namespace}")
    assert await socket.ask(auth) == {"success": True}
    return socket


def prediction(text, *fields, channel=1, model=TEXT):
    messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    config = {"layers": [{"layerName": "apiOverride", "config": {"fields": list(fields)}}]}
    return {
        "type": "channelCreate",
        "endpoint": "predict",
        "channelId": channel,
        "creationParameter": {
            "modelSpecifier": {"type": "query", "query": {"identifier": model}},
            "history": {"messages": messages},
            "predictionConfigStack": config,
        },
    }


def field(name, value):
    return {"key": f"llm.prediction.{name}", "value": value}


async def predicted(socket, *args, **more):
    """Return the texts by reasoning type, and the final packet."""
    await socket.socket.send_json(prediction(*args, **more))
    packets = await socket.until("channelClose")
    texts: dict[str, str] = {}
    for packet in packets:
        if packet["type"] == "fragment":
            kind = packet["fragment"]["reasoningType"]
            texts[kind] = texts.get(kind, "") + packet["fragment"]["content"]
    return texts, packets[-2]


@pytest.fixture
def loaded(emulator):
    for model in emulator._core.instances.downloaded("llm"):
        emulator._core.instances.add(model)
    return emulator


async def test_the_server_greets(emulator, http):
    assert await http.get("/lmstudio-greeting") == (200, {"lmstudio": True})
    for mode, kind in (("text", "text/plain"), ("html", "text/html")):
        emulator.configure(greeting=mode)
        async with http.session.get("/lmstudio-greeting") as response:
            assert response.content_type == kind
    emulator.configure(greeting="hang")
    with pytest.raises(TimeoutError):
        await http.get("/lmstudio-greeting", timeout=aiohttp.ClientTimeout(total=0.05))


async def test_seed_penalties_thinking_and_tool_choice_are_honoured(loaded, http):
    socket = await connected(http)
    texts = []
    for seed in (1, 2, 1):
        found, _ = await predicted(socket, "Hi", field("seed", {"checked": True, "value": seed}))
        texts.append(found["none"])
        assert f"seed={seed}" in found["none"]
    assert texts[0] == texts[2] != texts[1]
    found, _ = await predicted(socket, "Hi", field("llama.presencePenalty", {"checked": True, "value": 0.5}))
    assert "presence_penalty=0.5" in found["none"]
    found, _ = await predicted(socket, "Hi", field("reasoning.enableThinking", False), model=THINKING)
    assert list(found) == ["none"]
    tools = {
        "type": "toolArray",
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    }
    choice = field("toolChoice", {"type": "generic", "mode": "required"})
    _, final = await predicted(socket, "Hi", field("tools", tools), choice)
    assert final["stats"]["stopReason"] == "toolCalls"


async def test_tool_calls_have_their_packets(loaded, http):
    socket = await connected(http)
    tools = {
        "type": "toolArray",
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    }
    await socket.socket.send_json(prediction('[[tool=add {"a": 1}]] [[tool=fly {}]]', field("tools", tools)))
    packets = [p for p in await socket.until("success") if p["type"].startswith("toolCall")]
    kinds = list(dict.fromkeys(packet["type"] for packet in packets))
    assert kinds == [
        "toolCallGenerationStart",
        "toolCallGenerationNameReceived",
        "toolCallGenerationArgumentFragmentGenerated",
        "toolCallGenerationEnd",
    ]
    requests = [p["toolCallRequest"] for p in packets if p["type"] == "toolCallGenerationEnd"]
    await socket.socket.send_json(prediction("[[garbled=add]]", field("tools", tools)))
    [failed] = [p for p in await socket.until("success") if p["type"] == "toolCallGenerationFailed"]
    assert "Failed to parse" in failed["error"]["title"]
    assert failed["rawContent"].startswith("add({")
    # Whether there is such a tool is for the client to find out: both official ones do.
    assert [(request["name"], request["arguments"]) for request in requests] == [
        ("add", {"a": 1}),
        ("fly", {}),
    ]


@pytest.mark.parametrize(
    ("mode", "texts"),
    [
        (
            "auto",
            {"reasoningStartTag": "<think>", "reasoning": "A", "reasoningEndTag": "</think>", "none": "B"},
        ),
        ("inline", {"none": "<think>A</think>B"}),
        (
            "leaked",
            {
                "reasoningStartTag": "",
                "reasoning": "A",
                "reasoningEndTag": MARKER,
                "none": "B",
            },
        ),
    ],
)
async def test_reasoning_is_classified_as_the_switch_says(loaded, http, mode, texts):
    loaded.configure(separate_reasoning=mode)
    socket = await connected(http)
    assert (await predicted(socket, "[[think=A]][[say=B]]", model=THINKING))[0] == texts


async def test_parsing_of_reasoning_can_be_turned_off(loaded, http):
    socket = await connected(http)
    parsing = field("reasoning.parsing", {"enabled": False, "startString": "", "endString": ""})
    assert (await predicted(socket, "[[think=A]][[say=B]]", parsing, model=THINKING))[0] == {
        "none": "<think>A</think>B"
    }


async def test_malformed_numbers_are_refused(loaded, http):
    socket = await connected(http)
    await socket.socket.send_json(
        prediction("Hi", field("maxPredictedTokens", {"checked": True, "value": False}))
    )
    error = await socket.receive()
    assert error["type"] == "channelError"
    assert "expected number" in error["error"]["rootTitle"]


@pytest.mark.parametrize(
    ("namespace", "endpoint", "parameter"),
    [
        ("llm", "countTokens", {"specifier": {"type": "query", "query": 5}, "inputString": "x"}),
        ("llm", "countTokens", None),
        ("files", "uploadFileBase64", {"name": "x", "contentBase64": "§"}),
        ("repository", "searchModels", {"opts": {"limit": "x"}}),
        ("system", "predict", {}),
    ],
)
async def test_malformed_calls_are_answered(loaded, http, namespace, endpoint, parameter):
    socket = await connected(http, namespace)
    frame = {"type": "rpcCall", "endpoint": endpoint, "callId": 3, "parameter": parameter}
    assert (await socket.ask(frame))["type"] == "rpcError"


@pytest.mark.parametrize(
    ("endpoint", "parameter"),
    [
        ("predict", {}),
        (
            "predict",
            {"modelSpecifier": {"query": {}}, "history": {"messages": [{"role": "user", "content": 5}]}},
        ),
        ("predict", {"modelSpecifier": {"query": {}}, "history": {"messages": [{"role": "robot"}]}}),
        ("getOrLoad", {}),
        ("getOrLoad", {"identifier": "text-embedding-nomic-embed-text-v1.5"}),
        ("loadModel", {"modelKey": TEXT, "ttlMs": 0}),
        ("loadModel", {"modelKey": TEXT, "identifier": TEXT}),
        (
            "loadModel",
            {
                "modelKey": TEXT,
                "loadConfigStack": {
                    "layers": [{"config": {"fields": [{"key": "llm.load.contextLength", "value": "x"}]}}]
                },
            },
        ),
        ("surprise", {}),
    ],
)
async def test_malformed_channels_end_with_an_error(loaded, http, endpoint, parameter):
    socket = await connected(http)
    create = {"type": "channelCreate", "endpoint": endpoint, "channelId": 5, "creationParameter": parameter}
    await socket.socket.send_json(create)
    assert (await socket.until("channelError"))[-1]["channelId"] == 5
    assert loaded.last.failed


async def test_a_cancel_right_behind_the_request_is_honoured(loaded, http):
    socket = await connected(http)
    await socket.socket.send_json(prediction("[[words=100000]]"))
    await socket.socket.send_json({"type": "channelSend", "channelId": 1, "message": {"type": "cancel"}})
    assert (await socket.until("success"))[-1]["stats"]["stopReason"] == "userStopped"


async def test_prompt_progress_can_be_missing(loaded, http):
    loaded.configure(prompt_progress=False)
    socket = await connected(http)
    await socket.socket.send_json(prediction("Hi"))
    assert "promptProcessingProgress" not in {packet["type"] for packet in await socket.until("success")}


async def test_the_state_of_an_instance_is_told(loaded, http):
    socket = await connected(http)
    specifier = {"type": "query", "query": {"identifier": TEXT}}

    async def state():
        call = {"type": "rpcCall", "endpoint": "getInstanceProcessingState", "callId": 9}
        frame = await socket.ask({**call, "parameter": {"specifier": specifier, "throwIfNotFound": True}})
        return frame["result"]

    assert await state() == {"status": "idle", "queued": 0}
    gate = loaded.gates.hold("answering")
    other = await connected(http)
    for channel in range(6):
        await other.socket.send_json(prediction("Hi", channel=channel))
    await gate.reached(4)
    await loaded.wait_for(lambda e: sum(r.phase == "queued" for r in e.find("predict")) == 2)
    assert await state() == {"status": "generating", "queued": 2}


async def test_remote_calls_answer_or_fail_by_their_id(loaded, http):
    socket = await connected(http, "system")
    frame = await socket.ask({"type": "rpcCall", "endpoint": "version", "callId": 7})
    assert frame == {"type": "rpcResult", "callId": 7, "result": {"version": "0.4.25", "build": 1}}
    frame = await socket.ask({"type": "rpcCall", "endpoint": "nothing", "callId": 8})
    assert (frame["type"], frame["callId"]) == ("rpcError", 8)
    frame = await socket.ask({"type": "rpcCall", "endpoint": "info", "callId": 9})
    assert frame["result"]["version"] == "0.4.25"
    socket = await connected(http)
    unload = {"type": "rpcCall", "endpoint": "unloadModel", "callId": 1, "parameter": {"identifier": TEXT}}
    assert await socket.ask(unload) == {"type": "rpcResult", "callId": 1}
    estimate = {
        "type": "rpcCall",
        "endpoint": "estimateModelUsage",
        "callId": 2,
        "parameter": {"modelKey": TEXT},
    }
    assert (await socket.ask(estimate))["result"]["passesGuardrails"] is True


@pytest.mark.parametrize(
    ("frame", "warning"),
    [
        ({"type": "channelSend", "channelId": 4, "message": {}}, "unknown channel, channelId = 4"),
        ({"type": "surprise"}, "unknown type: surprise"),
        ([1, 2], "no JSON object"),
    ],
)
async def test_strange_frames_are_answered_with_a_warning(loaded, http, frame, warning):
    socket = await connected(http)
    answer = await socket.ask(frame)
    assert answer["type"] == "communicationWarning"
    assert warning in answer["warning"]
    assert await socket.ask({"type": "keepAlive"}) == {"type": "keepAliveAck"}


async def test_a_frame_that_is_no_json_does_not_end_the_socket(loaded, http):
    socket = await connected(http)
    for junk in ("{", "[" * 200_000, '"\\ud83d"'):
        await socket.socket.send_str(junk)
        assert (await socket.receive())["type"] == "communicationWarning"
    await socket.socket.send_bytes(b"\x00")
    assert (await socket.receive())["type"] == "communicationWarning"


@pytest.mark.parametrize(
    ("identifier", "passkey", "accepted"),
    [
        ("AbCdEfGh", "0123456789abcdefghij", True),
        ("AbCdEfGh", "wrong", False),
        ("guest:8f8b", "x", False),
        ("8f8b0c1e-aaaa-bbbb-cccc-0123456789ab", "x", False),
    ],
)
async def test_tokens_open_the_socket(make_lmstudio_emulator, connect, identifier, passkey, accepted):
    emulator = await make_lmstudio_emulator(tokens=(TOKEN,))
    http = await connect(emulator)
    socket = await http.socket("/llm")
    answer = await socket.ask({"authVersion": 1, "clientIdentifier": identifier, "clientPasskey": passkey})
    assert answer["success"] is accepted
    assert "0123456789abcdefghij" not in repr(emulator.requests)
    if not accepted:
        assert isinstance(answer["error"], str)
        assert (await socket.socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert emulator.find("WS /llm")[0].failed


async def test_pings_are_answered_unless_switched_off(emulator, http):
    for pong in (True, False):
        emulator.configure(pong=pong)
        socket = await http.socket("/llm", autoping=False)
        assert await socket.ask(GUEST) == {"success": True}
        await socket.socket.ping(b"?")
        await socket.socket.send_json({"type": "keepAlive"})
        kinds = []
        while aiohttp.WSMsgType.TEXT not in kinds:
            kinds.append((await socket.socket.receive(timeout=10)).type)
        assert (aiohttp.WSMsgType.PONG in kinds) is pong


@pytest.mark.parametrize("aborts", [True, False])
async def test_closing_the_socket_ends_its_work_if_the_switch_says_so(loaded, http, aborts):
    loaded.configure(socket_close_aborts=aborts)
    socket = await connected(http)
    gate = loaded.gates.hold("answering", after=3)
    await socket.socket.send_json(prediction("[[words=50]]"))
    await gate.reached()
    await socket.socket.close()
    record = await loaded.wait_for(lambda e: e.find("predict")[0].disconnected and e.find("predict")[0])
    gate.release()
    await loaded.wait_for(lambda _: record.state != "open")
    assert (record.cancelled, record.finished) == (aborts, not aborts)
    assert (record.tokens == 3) is aborts


@pytest.mark.parametrize("survives", [True, False])
async def test_a_load_outlives_its_socket_if_switched_so(emulator, http, survives):
    emulator.configure(load_survives_disconnect=survives)
    socket = await connected(http)
    gate = emulator.gates.hold("loading", after=3)
    await socket.socket.send_json(
        {
            "type": "channelCreate",
            "endpoint": "getOrLoad",
            "channelId": 1,
            "creationParameter": {"identifier": TEXT, "loadConfigStack": {"layers": []}},
        }
    )
    await gate.reached()
    await socket.socket.close()
    await emulator.wait_for(lambda e: e.find("getOrLoad")[0].cancelled)
    gate.release()
    await emulator.wait_for(lambda e: not e.loading)
    assert [instance.id for instance in emulator.instances] == ([TEXT] if survives else [])


async def test_cancel_leaves_the_queue_at_once(loaded, http):
    socket = await connected(http)
    gate = loaded.gates.hold("answering")
    for channel in range(5):
        await socket.socket.send_json(prediction("Hi", channel=channel))
    await gate.reached(4)
    waiting = await loaded.wait_for(lambda e: [r for r in e.find("predict") if r.phase == "queued"])
    channel = loaded.find("predict").index(waiting[0])
    await socket.socket.send_json(
        {"type": "channelSend", "channelId": channel, "message": {"type": "cancel"}}
    )
    success = (await socket.until("success"))[-1]
    assert success["stats"]["stopReason"] == "userStopped"
    assert waiting[0].phases == ["received", "queued", "cancelled"]


async def test_sockets_of_one_loop_do_not_wait_for_each_other(loaded, http):
    first, second = await connected(http), await connected(http)
    gate = loaded.gates.hold("answering", model=TEXT)
    await first.socket.send_json(prediction("Hi"))
    await gate.reached()
    texts, _ = await predicted(second, "[[say=B]]", model="qwen3-vl-4b")
    assert texts == {"none": "B"}
    gate.release()
    await asyncio.wait_for(first.until("success"), 10)
