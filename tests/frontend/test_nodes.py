"""What a user does with a node: keep an answer, copy it, replace an old node by it, open an example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
ANSWER = ".lmbridge-answer"


def _menu(page, node):
    """The entries that our script adds to the node's menu: text and whether it can be chosen."""
    entries = page.page.evaluate(
        """(id) => app.collectNodeMenuItems(nodeAt(id)).flat()
             .filter((item) => item?.content?.startsWith("LM Bridge"))
             .map((item) => [item.content, !item.disabled])""",
        node,
    )
    return {text.removeprefix("LM Bridge: "): enabled for text, enabled in entries}


def _choose(page, node, entry):
    page.page.evaluate(
        """([id, entry]) => app.collectNodeMenuItems(nodeAt(id)).flat()
             .find((item) => item?.content === `LM Bridge: ${entry}`).callback()""",
        [node, entry],
    )


def test_an_answer_can_be_kept_with_the_node(visit, renderer):
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest", model="qwen3-vl-4b")
    assert _menu(page, node)["keep this answer"] is False
    page.executed(
        node, {"text": "a fox", "reasoning": "secret thoughts", "model": "qwen3-vl-4b", "connection": "c"}
    )
    page.wait_text(ANSWER, "a fox")
    _choose(page, node, "keep this answer")
    page.wait_text(".lmbridge-hint", "Kept answer")
    saved = page.saved()
    assert saved["nodes"][0]["properties"]["lmbridge_kept"] == {
        "text": "a fox",
        "model": "qwen3-vl-4b",
        "connection": "c",
    }
    assert "secret thoughts" not in json.dumps(saved)
    page.clear()
    page.load(saved)
    sent = page.prompt_inputs(node)
    assert json.loads(sent["kept_answer"]) == {"text": "a fox", "model": "qwen3-vl-4b", "connection": "c"}
    assert sent["rerun"] == "keep this answer"
    _choose(page, node, "ask the model again")
    assert page.prompt_inputs(node)["kept_answer"] == ""
    assert page.prompt_inputs(node)["rerun"] == "reuse until inputs change"


def test_the_carrier_of_the_kept_answer_is_no_field(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    assert page.page.evaluate("(id) => widgetAt(id, 'kept_answer').hidden", node) is True
    assert page.page.get_by_text("kept_answer").count() == 0


def test_the_panel_is_the_last_widget_and_not_saved(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    names = page.page.evaluate("(id) => nodeAt(id).widgets.map((widget) => widget.name)", node)
    assert names[-1] == "lmbridge_answer"
    values = page.saved()["nodes"][0]["widgets_values"]
    assert len(values) == len(names) - 1


def test_copies_of_a_node_have_panels_of_their_own(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.page.evaluate(
        "(id) => { const copy = nodeAt(id).clone(); app.rootGraph.add(copy); copy.pos = [600, 60]; }", node
    )
    page.page.wait_for_function("() => document.querySelectorAll('.lmbridge-panel').length === 2")
    page.stream(node, {"text": "only the first"})
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('.lmbridge-answer')].filter((e) => e.textContent).length === 1"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_without_a_warning(visit, path):
    page = visit()
    workflow = json.loads(path.read_text(encoding="utf-8"))
    complaints = []
    page.page.on(
        "console", lambda message: complaints.append(message.text) if message.type == "error" else None
    )
    page.load(workflow)
    page.page.wait_for_selector(".lmbridge-panel")
    kinds = {node["type"] for node in workflow["nodes"]}
    assert kinds <= set(page.double.nodes) | {"MarkdownNote", "Note"}
    assert [text for text in complaints if "Failed to load resource" not in text] == []
    # Each value is one that its widget offers, so nothing is red and nothing is changed on the way.
    sent = page.page.evaluate("async () => (await app.graphToPrompt()).output")
    for number, node in sent.items():
        definition = page.double.nodes[node["class_type"]]["input"]
        for name, spec in {**definition["required"], **definition.get("optional", {})}.items():
            value = node["inputs"].get(name)
            options = (
                spec[1].get("options")
                if spec[0] == "COMBO"
                else spec[0]
                if isinstance(spec[0], list)
                else None
            )
            if options and name not in {"model", "ckpt_name", "image"} and value is not None:
                assert value in options, (number, name, value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_a_picture(path):
    picture = path.with_suffix(".jpg")
    assert picture.read_bytes().startswith(b"\xff\xd8")
    assert picture.stat().st_size < 200_000


def test_there_are_the_four_examples():
    assert len(EXAMPLES) >= 4


REST = [
    "be short",
    "hello",
    "LM Studio offline",
    "REST API",
    "http://localhost:1234",
    "",
    42,
    "fixed",
    0.5,
    99,
    True,
]
SDK = ["be short", "hello", "qwen3-vl-4b", "SDK", "", 42, "fixed", 0.5, 99, True]
XDEV = [
    "hello",
    "http://192.168.1.5:8080/v1",
    "llama-3.2",
    "odd",
    "be short",
    "",
    0.5,
    99,
    0.9,
    False,
    True,
    60,
    True,
]


@pytest.mark.parametrize(
    ("kind", "values", "connection", "model"),
    [
        ("LMStudio_Unified_Chat", REST, "lmstudio-rest", "automatic"),
        ("LMStudio_Unified_Chat", SDK, "lmstudio-sdk", "qwen3-vl-4b"),
        ("XDEV_LMStudioChat", XDEV, "openai-compat", "llama-3.2"),
    ],
    ids=["rest", "sdk", "xdev"],
)
def test_a_node_of_an_old_pack_becomes_ours(visit, kind, values, connection, model):
    page = visit()
    _replace(page, kind, values)
    page.page.wait_for_function("(name) => widgetAt('5', 'connection').value === name", arg=connection)
    wanted = {
        "model": model,
        "prompt": "hello",
        "system_prompt": "be short",
        "temperature": 0.5,
        "max_tokens": 99,
    }
    assert {name: page.widget("5", name) for name in wanted} == wanted
    assert page.widget("5", "preset") == "none"
    if kind == "LMStudio_Unified_Chat":
        assert page.widget("5", "seed") == 42
    assert page.problems == []


def test_an_old_node_s_unknown_server_is_named(visit):
    page = visit()
    _replace(page, "LMStudio_Unified_Chat", [*REST[:4], "http://10.1.2.3:9999", *REST[5:]])
    page.page.get_by_text("http://10.1.2.3:9999").first.wait_for()


def _replace(page, kind, values):
    """Open a workflow with an old node, and accept the replacement that ComfyUI offers."""
    page.double.replacements = json.loads(Path(__file__).with_name("replacements.json").read_text("utf-8"))
    page.reload()
    page.load(_old(kind, values))
    page.page.get_by_role("button", name="View details").first.click()
    page.page.get_by_role("button", name="Replace All").first.click()
    page.page.wait_for_function("() => nodeAt('5').comfyClass === 'LMBridge_Chat'")


def _old(kind, values):
    node = {"id": 5, "type": kind, "pos": [60, 60], "size": [300, 300], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [], "properties": {}, "widgets_values": values}  # fmt: skip
    return {"nodes": [node], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4,
            "last_node_id": 5, "last_link_id": 0}  # fmt: skip
