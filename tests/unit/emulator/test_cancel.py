"""A client that goes away, in every phase and on every HTTP route, and what becomes of the work."""

import asyncio

import aiohttp
import pytest

TEXT, THINKING, SLOW = "ibm/granite-4-micro", "qwen/qwen3-4b", "meta/llama-3.3-70b"
ROUTES = (
    "/api/v1/chat",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/v0/chat/completions",
)


def body_for(route, text="[[words=500]] Hi", model=THINKING, stream=True):
    if route in ("/api/v1/chat", "/v1/responses"):
        return {"model": model, "input": text, "stream": stream}
    if route == "/v1/completions":
        return {"model": model, "prompt": text, "stream": stream}
    limit = {"max_tokens": 200_000} if route == "/v1/messages" else {}
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **limit}


async def left(http, gate, route, **more):
    """Send a request, wait until it stands at the gate, and go away."""

    async def send():
        async with http.session.post(route, json=body_for(route, **more)) as response:
            async for _ in response.content:
                pass

    task = asyncio.create_task(send())
    await gate.reached()
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize(
    ("route", "phase"),
    [
        (route, phase)
        for route in ROUTES
        for phase in ("queued", "reasoning", "answering")
        if (route, phase) != ("/v1/completions", "reasoning")  # a text completion does not reason
    ],
)
async def test_a_lost_client_stops_the_work(emulator, http, route, phase):
    gate = emulator.gates.hold(phase, after=0 if phase == "queued" else 4)
    await left(http, gate, route)
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert (record.reason, record.disconnected) == ("disconnected", True)
    assert record.phase == phase
    assert emulator.instances[0].running == set()
    gate.release()
    assert (await http.chat("Hi"))["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("route", ROUTES)
async def test_the_prompt_is_read_to_its_end_first(emulator, http, route):
    gate = emulator.gates.hold("prompt", after=1)
    await left(http, gate, route)
    record = await emulator.wait_for(lambda e: e.last.disconnected and e.last)
    await http.get("/v1/models")  # time enough to stop, were it so
    assert record.state == "open"
    assert gate.waiting == 1
    assert emulator.instances[0].busy == 1
    gate.release()
    await emulator.wait_for(lambda _: record.cancelled)
    assert record.tokens == 0
    assert emulator.instances[0].busy == 0


async def test_the_prompt_is_left_at_once_if_switched_so(emulator, http):
    emulator.configure(finish_prompt_on_cancel=False)
    gate = emulator.gates.hold("prompt", after=1)
    await left(http, gate, "/api/v1/chat")
    await emulator.wait_for(lambda e: e.last.cancelled)
    assert not gate.is_open


@pytest.mark.parametrize("survives", [True, False])
async def test_a_load_outlives_its_client_if_switched_so(emulator, http, survives):
    emulator.configure(load_survives_disconnect=survives, auto_evict=False)
    gate = emulator.gates.hold("loading", after=10)
    await left(http, gate, "/api/v1/chat", model=SLOW)
    await emulator.wait_for(lambda e: e.last.cancelled)
    gate.release()
    await emulator.wait_for(lambda e: not e.loading)
    assert [entry.id for entry in emulator.instances] == ([SLOW] if survives else [])


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("notices", [False, True])
async def test_without_stream_a_lost_client_is_noticed_only_if_switched_so(emulator, http, route, notices):
    emulator.configure(stop_without_stream=notices)
    gate = emulator.gates.hold("answering", after=4)
    await left(http, gate, route, text="[[words=50]]", model=TEXT, stream=False)
    record = await emulator.wait_for(lambda e: e.last.disconnected and e.last)
    gate.release()
    await emulator.wait_for(lambda _: record.state != "open")
    assert record.cancelled is notices
    assert (record.tokens == 4) is notices


async def test_a_reader_that_stops_reading_stops_the_generation(emulator, http):
    async with http.session.post(
        "/api/v1/chat", json=body_for("/api/v1/chat", "[[words=200000]]", TEXT)
    ) as response:
        await response.content.readany()
        record = emulator.last
        # The socket's buffers fill, and the work waits: nothing else can be seen from outside but that it is
        # still at it when another request, begun later, has been answered.
        await http.chat("[[words=2000]]")
        assert record.state == "open"
        assert record.tokens < 200_000
    await emulator.wait_for(lambda _: record.cancelled)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_server_can_drop_the_connection(emulator, http, route, stream):
    emulator.configure(drop_after_tokens=3)
    with pytest.raises(aiohttp.ClientError):
        async with http.session.post(route, json=body_for(route, stream=stream)) as response:
            await response.read()
    record = await emulator.wait_for(lambda e: e.last.failed and e.last)
    assert (record.reason, record.tokens) == ("connection dropped", 3)


async def test_a_lost_client_of_an_embedding_is_noted(emulator, http):
    gate = emulator.gates.hold("embedding")
    body = {"model": "text-embedding-nomic-embed-text-v1.5", "input": "x"}
    task = asyncio.create_task(http.post("/v1/embeddings", body))
    await gate.reached()
    task.cancel()
    await emulator.wait_for(lambda e: e.last.cancelled)
    assert gate.waiting == 0
