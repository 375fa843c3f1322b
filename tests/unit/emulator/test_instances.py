"""TTL, eviction, slots and loads."""

import asyncio

import pytest

from lmbridge.emulator import CatalogModel, FakeClock, Settings
from lmbridge.emulator.instances import MAX_INSTANCES

TEXT, THINKING, SLOW = "ibm/granite-4-micro", "qwen/qwen3-4b", "meta/llama-3.3-70b"


def ids(emulator):
    return [instance.id for instance in emulator.instances]


async def test_an_idle_model_expires_and_use_resets_the_time(make_lmstudio_emulator, connect):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock, jit_ttl_s=100.0)
    http = await connect(emulator)
    await http.chat("Hi")
    clock.advance(99)
    await http.chat("Hi")
    clock.advance(99)
    assert ids(emulator) == [TEXT]
    clock.advance(1)
    assert ids(emulator) == []
    await http.chat("Hi", ttl=5)
    clock.advance(5)
    assert ids(emulator) == []
    await http.post("/api/v1/models/load", {"model": TEXT})
    clock.advance(1e6)
    assert ids(emulator) == [TEXT]


async def test_a_model_at_work_does_not_expire(make_lmstudio_emulator, connect):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock, jit_ttl_s=10.0)
    http = await connect(emulator)
    gate = emulator.gates.hold("answering")
    task = asyncio.create_task(http.chat("Hi"))
    await gate.reached()
    clock.advance(1000)
    assert ids(emulator) == [TEXT]
    gate.release()
    await task
    clock.advance(10)
    assert ids(emulator) == []


async def test_only_one_model_loaded_on_request_stays(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=("qwen3-vl-4b",))
    http = await connect(emulator)
    await http.chat("Hi", TEXT)
    await http.chat("Hi", THINKING)
    assert ids(emulator) == ["qwen3-vl-4b", THINKING]
    emulator.configure(auto_evict=False)
    await http.chat("Hi", TEXT)
    assert ids(emulator) == ["qwen3-vl-4b", THINKING, TEXT]


async def test_eviction_ends_what_the_evicted_model_was_doing(emulator, http):
    gate = emulator.gates.hold("answering", after=3, model=TEXT)
    body = {"model": TEXT, "input": "Hi", "stream": True}
    task = asyncio.create_task(http.events("/api/v1/chat", body))
    await gate.reached()
    await http.chat("Hi", THINKING)
    events = await task
    assert [name for name, _ in events][-2:] == ["error", "chat.end"]
    assert events[-2][1]["error"]["message"] == "Model unloaded."


async def test_requests_for_a_model_that_is_loading_share_the_load(emulator, http):
    gate = emulator.gates.hold("loading", after=5)
    tasks = [asyncio.create_task(http.chat(f"[[say={n}]]", SLOW)) for n in range(3)]
    await emulator.wait_for(lambda e: sum(r.phase == "loading" for r in e.requests) == 3)
    await gate.reached()
    assert gate.arrived == 1
    gate.release()
    assert [a["choices"][0]["message"]["content"] for a in await asyncio.gather(*tasks)] == ["0", "1", "2"]
    assert ids(emulator) == [SLOW]


async def test_slots_are_taken_in_order(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(parallel=1, loaded=(TEXT,))
    http = await connect(emulator)
    gate = emulator.gates.hold("answering", after=1)
    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(http.chat(f"[[say=number {number}]]")))
        await emulator.wait_for(lambda e, n=number: len([r for r in e.requests if "queued" in r.phases]) > n)
    assert gate.arrived == 1
    gate.release()
    await asyncio.gather(*tasks)
    ends = sorted((r.history[-1][0], r.text) for r in emulator.requests)
    assert [text for _, text in ends] == [f"number {n}" for n in range(4)]


async def test_memory_is_finite(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(loaded=(TEXT,) * MAX_INSTANCES))
    status, answer = await http.post("/api/v1/models/load", {"model": TEXT})
    assert status == 404
    assert "insufficient system resources" in answer["error"]["message"]


async def test_start_settings_are_checked(make_lmstudio_emulator):
    with pytest.raises(ValueError, match="nobody"):
        await make_lmstudio_emulator(loaded=("nobody",))
    emulator = await make_lmstudio_emulator(loaded=(TEXT, TEXT))
    assert ids(emulator) == [TEXT, f"{TEXT}:2"]


async def test_another_catalogue_and_other_switches(make_lmstudio_emulator, connect):
    catalog = [CatalogModel(key="acme/one", reasoning=("off", "on"), load_steps=1)]
    emulator = await make_lmstudio_emulator(Settings.instant(context_length=100), catalog=catalog)
    http = await connect(emulator)
    assert (await http.get("/v1/models"))[1]["data"][0]["id"] == "acme/one"
    assert (await http.chat("Hi", "acme/one"))["choices"][0]["message"]["reasoning_content"]
    with pytest.raises(TypeError):
        emulator.configure(no_such_switch=True)


def opening(endpoint, number, **parameter):
    return {
        "type": "channelCreate",
        "endpoint": endpoint,
        "channelId": number,
        "creationParameter": {"loadConfigStack": {"layers": []}, **parameter},
    }


async def client_of(http, namespace="llm"):
    socket = await http.socket(f"/{namespace}")
    await socket.ask({"authVersion": 1, "clientIdentifier": "guest:me", "clientPasskey": "x"})
    return socket


async def test_loads_of_the_sdk_expire_only_if_they_have_a_ttl(make_lmstudio_emulator, connect):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock, auto_evict=False)
    socket = await client_of(await connect(emulator))
    loads = (
        opening("loadModel", 1, modelKey=TEXT, ttlMs=5000),
        opening("loadModel", 2, modelKey=TEXT),
        opening("getOrLoad", 3, identifier=THINKING, loadTtlMs=9000),
        opening("getOrLoad", 4, identifier=SLOW),
    )
    for load in loads:
        await socket.socket.send_json(load)
        await socket.until("channelClose")
    assert ids(emulator) == [TEXT, f"{TEXT}:2", THINKING, SLOW]
    clock.advance(5)
    assert ids(emulator) == [f"{TEXT}:2", THINKING, SLOW]
    clock.advance(4)
    assert ids(emulator) == [f"{TEXT}:2", SLOW]
    clock.advance(1e7)
    assert ids(emulator) == [f"{TEXT}:2", SLOW]


async def test_any_use_begins_the_idle_time_anew(make_lmstudio_emulator, connect):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock, jit_ttl_s=100.0, auto_evict=False)
    http = await connect(emulator)
    socket = await client_of(http)
    embedding = "text-embedding-nomic-embed-text-v1.5"
    await http.chat("Hi")
    await http.post("/v1/embeddings", {"model": embedding, "input": "a"})
    for number in range(3):
        clock.advance(99)
        query = {"type": "query", "query": {"identifier": TEXT}}
        parameter = {"specifier": query, "inputString": "a b"}
        call = {"type": "rpcCall", "endpoint": "countTokens", "callId": number, "parameter": parameter}
        assert (await socket.ask(call))["type"] == "rpcResult"
        assert (await http.post("/v1/embeddings", {"model": embedding, "input": "a"}))[0] == 200
    assert ids(emulator) == [TEXT, embedding]
    await http.get("/api/v1/models")
    clock.advance(100)
    assert ids(emulator) == [], "a look at the list is no use"


async def test_without_auto_unload_what_a_request_loaded_stays(make_lmstudio_emulator, connect):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock, jit_ttl_s=None)
    http = await connect(emulator)
    await http.chat("Hi")
    clock.advance(1e7)
    assert ids(emulator) == [TEXT]


async def test_what_waits_for_an_instance_ends_with_it(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(parallel=1, loaded=(TEXT,))
    http = await connect(emulator)
    body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
    for crash, told in ((None, "Model unloaded."), (1, "has crashed")):
        await http.post("/_emulator/reset", {"parts": ["instances", "requests"]})
        emulator.configure(crash_after_tokens=crash)
        gate = emulator.gates.hold("answering")
        tasks = [asyncio.create_task(http.post("/v1/chat/completions", body)) for _ in range(3)]
        await gate.reached()
        await emulator.wait_for(lambda e: sum(r.phase == "queued" for r in e.requests) == 2)
        if not crash:
            emulator.unload(TEXT)
        gate.release()
        for status, answer in await asyncio.gather(*tasks):
            assert status == 500
            assert told in str(answer)
        assert emulator.instances == []


async def test_who_leaves_the_queue_lets_the_next_one_come(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(parallel=1, loaded=(TEXT,))
    http = await connect(emulator)
    gate = emulator.gates.hold("answering")
    body = {"model": TEXT, "input": "Hi", "stream": True}
    tasks = []
    for number in range(3):
        tasks.append(asyncio.create_task(http.events("/api/v1/chat", body)))
        await emulator.wait_for(lambda e, n=number: len(e.requests) == n + 1 and e.last.phase != "received")
    await gate.reached()
    tasks[1].cancel()
    await emulator.wait_for(lambda e: e.requests[1].cancelled)
    gate.release()
    assert (await tasks[0])[-1][0] == (await tasks[2])[-1][0] == "chat.end"
    assert emulator.requests[1].tokens == 0


async def test_a_prediction_does_not_run_on_what_is_gone(emulator, http):
    def unload_at_once(_record, _what):
        for instance in emulator.instances:
            emulator.unload(instance.id)

    end = emulator.watch(unload_at_once)
    body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
    status, answer = await http.post("/v1/chat/completions", body)
    assert (status, answer["error"]) == (500, "Model unloaded.")
    assert emulator.last.tokens == 0
    end()
    assert await http.chat("Hi")


async def test_an_embedding_is_work(emulator, http):
    clock_model = "text-embedding-nomic-embed-text-v1.5"
    socket = await client_of(http, "embedding")
    gate = emulator.gates.hold("embedding")
    body = {"model": clock_model, "input": "a"}
    task = asyncio.create_task(http.post("/v1/embeddings", body))
    await gate.reached()
    emulator.advance(1e6)
    assert ids(emulator) == [clock_model], "what is at work does not expire"
    query = {"type": "query", "query": {"identifier": clock_model}}
    call = {"type": "rpcCall", "callId": 1, "parameter": {"specifier": query, "throwIfNotFound": True}}
    state = await socket.ask({**call, "endpoint": "getInstanceProcessingState"})
    assert state["result"] == {"status": "idle", "queued": 1}
    emulator.unload(clock_model)
    gate.release()
    status, answer = await task
    assert (status, answer["error"]) == (500, "Model unloaded.")
    assert (await http.post("/v1/embeddings", body))[0] == 200
    assert emulator.instances[0].status == "idle"


async def test_an_instance_is_idle_when_its_last_prediction_has_ended(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT,))
    http = await connect(emulator)
    gate = emulator.gates.hold("answering", after=5)
    long = asyncio.create_task(http.chat("[[words=20]]"))
    await gate.reached()
    await http.chat("[[say=Hi]]")
    assert emulator.instances[0].status == "generating"
    gate.release()
    await long
    assert emulator.instances[0].status == "idle"


async def test_instances_are_numbered_and_reused_by_their_number(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=(TEXT, TEXT))
    http = await connect(emulator)
    assert (await http.chat("Hi", f"{TEXT}:2"))["model"] == f"{TEXT}:2"
    emulator.unload(TEXT)
    assert (await http.chat("Hi", TEXT))["model"] == f"{TEXT}:2"
    status, answer = await http.post("/api/v1/models/load", {"model": TEXT})
    assert (status, answer["instance_id"]) == (200, TEXT)
