"""Cancelling in the real ComfyUI: reported within a moment, and the server stops."""

from collections.abc import Callable
from typing import Any

import pytest

Chat = Callable[..., dict[str, Any]]

#: ComfyUI reports within 0.3 s on a machine that has time; a loaded one is no reason for a failure.
GENEROUS = 5.0


def is_in(phase: str) -> Callable[[Any], bool]:
    return lambda run: any(update["phase"] == phase for update in run.updates())


PHASES = {
    "loading": "loading model",
    "prompt": "reading prompt",
    "reasoning": "reasoning",
    "answering": "answering",
}


@pytest.mark.parametrize("connection", ["lmstudio-rest", "lmstudio-sdk"])
@pytest.mark.parametrize("phase", PHASES)
async def test_cancel_stops_the_server_in_each_phase(
    comfy: Any, page: Any, chat: Chat, phase: str, connection: str
) -> None:
    comfy.emulator.hold(phase, after=2 if phase in {"reasoning", "answering"} else 0)
    try:
        node = chat("[[thoughts=40]][[words=40]]", model="qwen/qwen3-4b", connection=connection)
        run = await page.queue({"1": node})
        await page.follow(run, until=is_in(PHASES[phase]))
        began = await page.interrupt()
        await page.follow(run)
        assert run.end == "execution_interrupted"
        assert run.at("execution_interrupted") - began < GENEROUS
        print(f"{connection} {phase}: {run.at('execution_interrupted') - began:.3f} s")  # noqa: T201 - for the reader of -rP
    finally:
        comfy.emulator.release()  # a cancel while the server reads the prompt takes effect after it
    route = "/api/v1/chat" if connection == "lmstudio-rest" else "predict"
    if connection == "lmstudio-rest" or phase != "loading":
        comfy.emulator.wait_for(lambda emulator: all(one.cancelled for one in emulator.find(route)))
    assert not comfy.emulator.call(lambda emulator: any(one.finished for one in emulator.find(route)))


async def test_cancel_while_the_server_does_not_even_answer(page: Any, chat: Chat, comfy: Any) -> None:
    comfy.emulator.configure(greeting="hang")
    comfy.emulator.hold("queued")
    try:
        run = await page.queue({"1": chat(connection="openai-compat", seed=31)})
        await page.follow(run, until=is_in("connecting"))
        began = await page.interrupt()
        await page.follow(run)
    finally:
        comfy.emulator.release()
        comfy.emulator.configure(greeting="ok")
    assert run.end == "execution_interrupted"
    assert run.at("execution_interrupted") - began < GENEROUS


async def test_cancel_ends_every_item_of_a_list(page: Any, chat: Chat, comfy: Any) -> None:
    comfy.emulator.hold("answering", after=2)
    graph = {
        "1": chat(["2", 0], seed=32),
        "2": {"class_type": "Test_Texts", "inputs": {"lines": "a\nb\nc\nd\ne\nf"}},
    }
    try:
        run = await page.queue(graph)
        await page.follow(run, until=is_in("answering"))
        began = await page.interrupt()
        await page.follow(run)
        assert run.end == "execution_interrupted"
        assert run.at("execution_interrupted") - began < GENEROUS
        comfy.emulator.wait_for(lambda emulator: all(one.cancelled for one in emulator.find("/api/v1/chat")))
    finally:
        comfy.emulator.release()


async def test_the_next_prompt_is_not_cancelled_with_it(page: Any, chat: Chat, comfy: Any) -> None:
    comfy.emulator.hold("answering", after=2)
    try:
        run = await page.queue({"1": chat("[[words=40]]", seed=33)})
        after = await page.queue({"1": chat("[[say=still here]]", seed=34)})
        await page.follow(run, until=is_in("answering"))
        await page.interrupt()
        await page.follow(run)
    finally:
        comfy.emulator.release()
    await page.follow(after)
    assert after.end == "execution_success"
    assert after.answers()[0]["text"] == "still here"


async def test_the_nodes_own_stop_button(page: Any, chat: Chat, comfy: Any) -> None:
    token = (await page.get("/lmbridge/session"))["token"]
    comfy.emulator.hold("answering", after=2)
    try:
        run = await page.queue({"1": chat("[[words=40]]", seed=35)})
        await page.follow(run, until=is_in("answering"))
        body = {"prompt_id": run.prompt_id, "node": "1"}
        status, answer = await page.post("/lmbridge/stop", body, **{"X-LMBridge-Token": token})
        assert (status, answer) == (200, {"stopped": 1})
        await page.follow(run)
    finally:
        comfy.emulator.release()
    assert run.end == "execution_interrupted"
    status, answer = await page.post("/lmbridge/stop", body, **{"X-LMBridge-Token": token})
    assert status == 404
