"""The streamed form of `POST /v1/responses`."""

import json

import pytest
from pydantic import TypeAdapter

TEXT, THINKING = "ibm/granite-4-micro", "qwen/qwen3-4b"
ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}


async def stream(http, text, model=TEXT, **more):
    events = await http.events("/v1/responses", {"model": model, "input": text, "stream": True, **more})
    assert all(data["type"] == name for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    return events


def kinds(events):
    """Return the names without `response.`, repeated deltas folded."""
    names = [name.removeprefix("response.") for name, _ in events]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


async def test_every_event_comes_in_its_order(http):
    events = await stream(http, "Hello", THINKING)
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [data["output_index"] for name, data in events if name.endswith("item.added")] == [0, 1]
    begun = events[0][1]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)


async def test_the_last_event_is_the_folded_stream_and_the_whole_answer(http):
    events = await stream(http, "Hello", THINKING)
    response = events[-1][1]["response"]
    assert response["id"] == events[0][1]["response"]["id"]
    for index, kind in enumerate(("reasoning_text", "output_text")):
        deltas = [data["delta"] for name, data in events if name == f"response.{kind}.delta"]
        item = response["output"][index]
        assert "".join(deltas) == item["content"][0]["text"] != ""
        assert all(d["item_id"] == item["id"] for n, d in events if n == f"response.{kind}.delta")
    _, whole = await http.post("/v1/responses", {"model": THINKING, "input": "Hello"})
    for item in (*response["output"], *whole["output"]):
        item.pop("id")
    assert response["output"] == whole["output"]
    assert response["usage"] == whole["usage"]


async def test_the_events_are_openais(http):
    """The official client's own types, checked strictly, which the client itself never does."""
    import openai
    from openai.types.responses import ResponseStreamEvent

    if tuple(int(part) for part in openai.__version__.split(".")[:2]) < (1, 109):
        pytest.skip("the client knows too little of this interface")
    adapter = TypeAdapter(ResponseStreamEvent)
    hub = {"type": "mcp", "server_label": "hub", "server_url": "https://huggingface.co/mcp"}
    prompts = ("Hello", "use model_search", 'x [[tool=add {"a": 2}]]', "x [[tool=fly {}]]")
    seen = set()
    for prompt in prompts:
        for name, data in await stream(http, prompt, THINKING, tools=[hub, ADD]):
            if "response" not in data:  # those name fields that only OpenAI's own server has
                assert adapter.validate_python(data).type == name
                seen.add(name)
    assert {"response.mcp_call.completed", "response.function_call_arguments.done"} <= seen


async def test_a_function_call_comes_in_pieces(http):
    events = await stream(http, 'x [[tool=add {"a": 20}]] [[tool=add {"a": 30}]]', tools=[ADD])
    one = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    assert kinds(events)[2:-1] == [*one, "output_item.done"] * 2
    for index, value in enumerate((20, 30)):
        mine = [data for _, data in events if data.get("output_index") == index]
        text = "".join(data["delta"] for data in mine if "delta" in data)
        assert json.loads(text) == {"a": value}
        assert mine[-1]["item"]["arguments"] == text == mine[-2]["arguments"]


async def test_an_mcp_call_has_its_events(http):
    hub = {"type": "mcp", "server_label": "hub", "server_url": "https://huggingface.co/mcp"}
    events = await stream(http, "use model_search", tools=[hub])
    assert kinds(events)[2:11] == [
        "output_item.added",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "output_item.done",
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
    ]
    failed = kinds(await stream(http, "x [[tool=fly {}]]", tools=[hub]))
    assert failed[6:9] == ["output_item.added", "mcp_call.in_progress", "mcp_call.failed"][0:3]
    assert failed[-1] == "completed"


async def test_the_tools_of_server_and_client_are_called_in_one_answer(http):
    hub = {"type": "mcp", "server_label": "hub", "server_url": "https://huggingface.co/mcp"}
    events = await stream(http, 'x [[tool=model_search {}]] [[tool=add {"a": 1}]]', tools=[hub, ADD])
    output = events[-1][1]["response"]["output"]
    assert sorted(item["type"] for item in output) == ["function_call", "mcp_call", "mcp_list_tools"]


async def test_a_dead_server_fails_in_the_stream(http):
    hub = {"type": "mcp", "server_label": "hub", "server_url": "https://mcp.invalid"}
    events = await stream(http, "Hi", tools=[hub])
    assert kinds(events)[-2:] == ["mcp_list_tools.failed", "failed"]


async def test_a_full_budget_ends_with_incomplete(http):
    events = await stream(http, "[[words=50]]", max_output_tokens=5)
    assert kinds(events)[-5:] == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert events[-2][1]["item"]["status"] == "incomplete"


async def test_a_streamed_response_can_be_continued(http):
    # bug-tracker#1188
    first = (await stream(http, "My name is Ada"))[-1][1]["response"]
    second = (await stream(http, "Who am I?", previous_response_id=first["id"]))[-1][1]["response"]
    assert "1 assistant and 1 user" in second["output"][0]["content"][0]["text"]


async def test_what_fails_before_the_first_event_has_its_own_status(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(load_failure=True)
    http = await connect(emulator)
    status, answer = await http.post("/v1/responses", {"model": TEXT, "input": "Hi", "stream": True})
    assert (status, answer["error"]["code"]) == (404, "model_load_failed")


async def test_a_crash_is_a_failed_response(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(crash_after_tokens=3)
    http = await connect(emulator)
    response = (await stream(http, "Hi"))[-1][1]["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["error"]["message"].startswith("The model has crashed")
    assert emulator.last.failed
    emulator.configure(responses_error_event=True)
    events = await http.events("/v1/responses", {"model": TEXT, "input": "Hi", "stream": True})
    name, data = events[-1]
    assert (name, data["type"], data["sequence_number"]) == ("error", "error", len(events) - 1)
    assert data["message"].startswith("The model has crashed")
    status, answer = await http.post("/v1/responses", {"model": TEXT, "input": "Hi"})
    assert (status, answer["error"]["message"][:21]) == (500, "The model has crashed")


async def test_overflow_has_its_forms(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(context_length=20)
    http = await connect(emulator)
    body = {"model": TEXT, "input": "word " * 50, "stream": True}
    status, answer = await http.post("/v1/responses", body)
    assert status == 400
    assert "n_keep" in answer["error"]["message"]
    emulator.configure(overflow="in_stream")
    events = await http.events("/v1/responses", body)
    assert kinds(events) == ["created", "in_progress", "failed"]
    assert "n_keep" in events[-1][1]["response"]["error"]["message"]
    emulator.configure(overflow="silent")
    assert await http.events("/v1/responses", body) == []


async def test_an_unload_under_way_is_a_failure(emulator, http):
    gate = emulator.gates.hold("answering", after=2)
    async with http.session.post(
        "/v1/responses", json={"model": TEXT, "input": "Hi", "stream": True}
    ) as answer:
        await gate.reached()
        emulator.unload(TEXT)
        gate.release()
        text = await answer.text()
    assert "response.failed" in text
    assert "Model unloaded." in text


async def test_leaving_stops_the_work(emulator, http):
    body = {"model": TEXT, "input": "[[words=100000]]", "stream": True}
    async with http.session.post("/v1/responses", json=body) as answer:
        await answer.content.readany()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert (record.reason, record.disconnected) == ("disconnected", True)
    assert record.tokens < 100_000


async def test_the_connection_may_be_dropped(make_lmstudio_emulator, connect):
    import aiohttp

    http = await connect(await make_lmstudio_emulator(drop_after_tokens=2))
    with pytest.raises(aiohttp.ClientError):
        await http.events("/v1/responses", {"model": TEXT, "input": "Hi", "stream": True})
