"""What is saved: answers in pictures if asked for, keys never."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

Chat = Callable[..., dict[str, Any]]

THOUGHT = "a thought that stays here"


def graph_of(node: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "1": node,
        "2": {"class_type": "Test_Picture", "inputs": {"count": 1, "name": name}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": name}},
        # Keeps the picture behind the answer, as a sampler that gets its prompt from it does.
        "4": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
    }


def behind(node: dict[str, Any], name: str) -> dict[str, Any]:
    graph = graph_of(node, name)
    graph["2"]["inputs"]["name"] = ["1", 0]
    return graph


def metadata(base: Path, run: Any) -> dict[str, Any]:
    (saved,) = run.of("executed", "3")[0]["output"]["images"]
    with Image.open(base / "output" / saved["subfolder"] / saved["filename"]) as picture:
        return {name: json.loads(text) for name, text in picture.text.items()}


async def test_the_answer_is_in_the_picture_also_when_the_node_was_cached(
    comfy: Any, page: Any, chat: Chat
) -> None:
    node = chat(
        f"[[think={THOUGHT}]][[say=red cat]]",
        model="qwen/qwen3-4b",
        connection="openai-compat",
        seed=71,
        save_answer=True,
    )
    graph = behind(node, "saved")
    body = {"extra_data": {"extra_pnginfo": {"workflow": {"id": "w"}}}}
    first = metadata(comfy.base, await page.run(graph, **body))
    (answer,) = first["lmbridge"]["1"]["answers"]
    assert answer["text"] == "red cat"
    assert answer["model"] == "qwen/qwen3-4b"
    assert answer["settings"]["seed"] == 71
    assert answer["usage"]["completion_tokens"] > 0
    assert THOUGHT not in json.dumps(first["lmbridge"])
    graph["3"]["inputs"]["filename_prefix"] = "again"
    again = await page.run(graph, extra_data={"extra_pnginfo": {"workflow": {"id": "w"}}})
    assert not again.updates()  # from the cache
    assert metadata(comfy.base, again)["lmbridge"] == first["lmbridge"]


async def test_a_prompt_that_was_queued_before_the_answer_came_has_it_too(
    comfy: Any, page: Any, chat: Chat
) -> None:
    comfy.emulator.hold("answering", after=1)
    node = chat("[[say=blue dog]]", seed=72, save_answer=True)
    graph, other = behind(node, "early"), behind(node, "late")
    try:
        first = await page.queue(graph, extra_data={"extra_pnginfo": {}})
        await page.follow(first, until=lambda run: any(one["phase"] == "answering" for one in run.updates()))
        second = await page.queue(other, extra_data={"extra_pnginfo": {}})
    finally:
        comfy.emulator.release()
    await page.follow(first)
    await page.follow(second)
    assert metadata(comfy.base, second)["lmbridge"]["1"]["answers"][0]["text"] == "blue dog"


async def test_nothing_is_saved_by_default(comfy: Any, page: Any, chat: Chat) -> None:
    run = await page.run(behind(chat("[[say=green]]", seed=73), "plain"), extra_data={"extra_pnginfo": {}})
    assert "lmbridge" not in metadata(comfy.base, run)


async def test_a_changed_prompt_does_not_get_the_old_answer(comfy: Any, page: Any, chat: Chat) -> None:
    graph = graph_of(chat("[[say=old]]", seed=74, save_answer=True), "change")
    await page.run(graph, extra_data={"extra_pnginfo": {}})
    changed = graph_of(chat("[[say=new]]", seed=74, save_answer=True), "changed")
    run = await page.run(changed, extra_data={"extra_pnginfo": {}})
    saved = metadata(comfy.base, run).get("lmbridge", {"1": {"answers": [{"text": "new"}]}})
    assert saved["1"]["answers"][0]["text"] == "new"


async def test_the_key_is_nowhere(comfy: Any, page: Any, chat: Chat, canary: str) -> None:
    graph = behind(chat("[[say=secretly]]", seed=75, save_answer=True), "canary")
    run = await page.run(graph, extra_data={"extra_pnginfo": {"workflow": {"id": "w", "graph": graph}}})
    failed = await page.run({"1": chat(model="no/such-model", seed=76)})
    used = comfy.emulator.call(
        lambda emulator: [one.headers.get("authorization") for one in emulator.requests]
    )
    assert any(used)  # it was sent to the server, which masks it in its records
    paths = ["/history", "/queue", "/settings", "/object_info/LMBridge_Chat", "/api/jobs"]
    paths += [f"/lmbridge/{name}" for name in ("session", "connections?refresh=1", "plugins", "errors")]
    paths += ["/lmbridge/models?connection=lmstudio-rest", "/node_replacements", f"/history/{run.prompt_id}"]
    told = [await page.get(path) for path in paths]
    seen = json.dumps([told, run.messages, failed.messages]) + comfy.log.read_text(encoding="utf-8")
    assert canary not in seen
    files = [path for path in comfy.base.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".png" for path in files)
    assert not [path for path in files if canary.encode() in path.read_bytes()]
