"""Giving the memory back, in the real ComfyUI."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

Chat = Callable[..., dict[str, Any]]

LLM = "ibm/granite-4-micro"
OTHER = "qwen/qwen3-4b"
OURS = "unload if we loaded it"


def loaded(comfy: Any) -> list[str]:
    return comfy.emulator.call(lambda emulator: sorted(copy.model.key for copy in emulator.instances))


def wait_until_empty(comfy: Any) -> None:
    comfy.emulator.wait_for(lambda emulator: not list(emulator.instances), 30)


def load_by_hand(comfy: Any, model: str) -> None:
    """As the user does in LM Studio's own window."""
    body = json.dumps({"model": model}).encode()
    headers = {"Content-Type": "application/json"}
    address = f"{comfy.emulator.url}/api/v1/models/load"
    request = urllib.request.Request(address, body, headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - our own server
        pass


@pytest.mark.parametrize("connection", ["lmstudio-rest", "lmstudio-sdk"])
async def test_what_we_loaded_has_left_before_the_next_node_runs(
    comfy: Any, page: Any, chat: Chat, connection: str
) -> None:
    graph = {
        "1": chat(connection=connection, after_run=OURS, seed=51),
        "2": {"class_type": "Test_Block", "inputs": {"seconds": 0.0, "after": ["1", 0]}},
    }
    run = await page.queue(graph)
    seen: list[list[str]] = []
    await page.follow(
        run, until=lambda run: bool(run.of("test.block") and (seen.append(loaded(comfy)) or True))
    )
    assert seen == [[]]
    await page.follow(run)
    assert run.end == "execution_success"


async def test_what_the_user_loaded_stays_unless_asked_for(comfy: Any, page: Any, chat: Chat) -> None:
    comfy.emulator.configure(auto_evict=False)
    load_by_hand(comfy, LLM)
    await page.run({"1": chat(after_run=OURS, seed=52)})
    assert loaded(comfy) == [LLM]
    await page.run({"1": chat(after_run="unload", seed=53)})
    assert loaded(comfy) == []


async def test_by_default_the_model_stays(comfy: Any, page: Any, chat: Chat) -> None:
    await page.run({"1": chat(seed=54)})
    assert loaded(comfy) == [LLM]


async def test_the_model_leaves_after_the_last_node_that_uses_it(comfy: Any, page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("[[say=one]]", after_run=OURS, seed=55),
        "2": chat(["1", 0], after_run=OURS, seed=55),
        "3": chat(["2", 0], after_run=OURS, seed=55),
    }
    run = await page.run(graph)
    assert run.end == "execution_success"
    loads = comfy.emulator.call(
        lambda emulator: sum("loading" in one.phases for one in emulator.find("/api/v1/chat"))
    )
    assert loads == 1
    assert loaded(comfy) == []


async def test_a_node_from_the_cache_is_not_waited_for(comfy: Any, page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("first", after_run=OURS, seed=56),
        "2": chat("second", after_run=OURS, seed=56),
        "3": {"class_type": "Test_Block", "inputs": {"seconds": 0.0, "after": ["1", 0]}},
    }
    await page.run(graph)
    graph["1"] = chat("changed", after_run=OURS, seed=56)
    run = await page.queue(graph)
    seen: list[list[str]] = []
    await page.follow(
        run, until=lambda run: bool(run.of("test.block") and (seen.append(loaded(comfy)) or True))
    )
    await page.follow(run)
    assert seen == [[]]


async def test_a_node_that_is_not_asked_to_run_is_not_waited_for(comfy: Any, page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("one", after_run=OURS, seed=57),
        "2": chat("never asked", after_run=OURS, seed=57),
    }
    run = await page.run(graph, partial_execution_targets=["1"])
    assert run.end == "execution_success"
    assert loaded(comfy) == []


async def test_it_leaves_after_a_cancel(comfy: Any, page: Any, chat: Chat) -> None:
    comfy.emulator.hold("answering", after=2)
    try:
        run = await page.queue({"1": chat("[[words=40]]", after_run=OURS, seed=58)})
        await page.follow(run, until=lambda run: any(one["phase"] == "answering" for one in run.updates()))
        await page.interrupt()
        await page.follow(run)
    finally:
        comfy.emulator.release()
    assert run.end == "execution_interrupted"
    wait_until_empty(comfy)


async def test_it_leaves_after_a_cancel_while_it_loads(comfy: Any, page: Any, chat: Chat) -> None:
    comfy.emulator.configure(load_survives_disconnect=True)
    comfy.emulator.hold("loading", after=1)
    try:
        run = await page.queue({"1": chat(after_run=OURS, seed=59)})
        await page.follow(
            run, until=lambda run: any(one["phase"] == "loading model" for one in run.updates())
        )
        await page.interrupt()
        await page.follow(run)
    finally:
        comfy.emulator.release()
        comfy.emulator.configure(load_survives_disconnect=False)
    assert run.end == "execution_interrupted"
    wait_until_empty(comfy)


async def test_it_leaves_after_a_failure(comfy: Any, page: Any, chat: Chat) -> None:
    comfy.emulator.configure(crash_after_tokens=3)
    try:
        run = await page.run({"1": chat("[[words=30]]", after_run=OURS, seed=60)})
    finally:
        comfy.emulator.configure(crash_after_tokens=None)
    assert run.end == "execution_error"
    wait_until_empty(comfy)


async def test_comfyuis_unload_button_frees_what_we_loaded(comfy: Any, page: Any, chat: Chat) -> None:
    comfy.emulator.configure(auto_evict=False)
    await page.run({"1": chat(seed=61)})
    await page.get("/lmbridge/models?connection=lmstudio-rest&refresh=1")  # what earlier tests loaded is gone
    load_by_hand(comfy, OTHER)
    assert loaded(comfy) == [LLM, OTHER]
    status, _ = await page.post("/free", {"unload_models": True})
    assert status == 200
    comfy.emulator.wait_for(lambda emulator: len(list(emulator.instances)) == 1, 30)
    assert loaded(comfy) == [OTHER]


async def test_a_request_that_frees_nothing_leaves_our_models_alone(
    comfy: Any, page: Any, chat: Chat
) -> None:
    await page.run({"1": chat(seed=62)})
    assert (await page.post("/free", {"unload_models": False}))[0] == 200
    async with page.session.post(f"{page.url}/free", data="nonsense") as response:
        assert response.status == 500  # ComfyUI's own answer
    assert loaded(comfy) == [LLM]


async def test_comfyuis_memory_is_freed_first_if_asked_for(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat(before_run="free ComfyUI's memory first", seed=63)})
    assert run.end == "execution_success"


async def test_the_models_node_lists_loads_and_unloads(comfy: Any, page: Any) -> None:
    def graph(action: str, **inputs: Any) -> dict[str, Any]:
        given = {"action": action, "connection": "lmstudio-rest", "model": LLM, **inputs}
        return {
            "1": {"class_type": "LMBridge_Models", "inputs": given},
            "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
            "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 1]}},
        }

    run = await page.run(graph("load", context_length=2048))
    assert "2048" in run.shown("2")[0]
    assert loaded(comfy) == [LLM]
    run = await page.run(graph("list"))
    assert OTHER in run.shown("3")
    assert f"{LLM}: loaded" in run.shown("2")[0]
    run = await page.run(graph("unload"))
    assert run.shown("2")[0].startswith(f"{LLM} was unloaded.")
    assert loaded(comfy) == []
    run = await page.run(graph("load", model="automatic"))
    assert run.error.startswith("No model to load is chosen.")
    run = await page.run(graph("load", config="[1]"))
    assert run.error.startswith("config is no JSON object.")
