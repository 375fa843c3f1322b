"""The script in the real ComfyUI, with its real page, against the emulator."""

from __future__ import annotations

import json
import urllib.request
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
ANSWER = ".lmbridge-answer"
STATUS = ".lmbridge-status"
MODEL = "ibm/granite-4-micro"
THINKER = "qwen/qwen3-4b"


def _queue(page):
    page.page.evaluate("() => app.queuePrompt(0, 1)")


def _chat(page, prompt, **values):
    return page.chat(**({"connection": "lmstudio-rest", "model": MODEL, "prompt": prompt} | values))


def _phase(page, phase):
    page.page.wait_for_selector(f".lmbridge-panel[data-phase='{phase}']")


def _example(name):
    return json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def test_an_answer_streams_and_ends(visit, renderer, comfy):
    page = visit(renderer)
    gate = comfy.emulator.hold("answering", after=3)
    _chat(page, f"Hello {uuid.uuid4()} [[words=40]]")
    _queue(page)
    comfy.emulator.reached(gate)
    page.page.wait_for_function(f"() => document.querySelector('{ANSWER}').textContent.length > 3")
    _phase(page, "answering")
    partial = page.text(ANSWER)
    comfy.emulator.release()
    _phase(page, "done")
    assert len(page.text(ANSWER)) > len(partial)
    assert page.text(ANSWER).startswith(partial.rstrip()[:10])
    page.wait_text(STATUS, MODEL)
    assert page.problems == []


def test_thinking_is_apart(visit):
    page = visit()
    _chat(page, f"Hello {uuid.uuid4()} [[words=8]]", model=THINKER, reasoning="on")
    _queue(page)
    _phase(page, "done")
    page.wait_text("summary", "Thinking")
    page.page.locator(".lmbridge-thinking summary").click()
    page.page.wait_for_function("() => document.querySelector('.lmbridge-thought').textContent.length > 10")


def test_the_same_prompt_again_shows_the_cached_answer(visit):
    page = visit()
    node = _chat(page, f"Hello {uuid.uuid4()} [[words=8]]")
    _queue(page)
    _phase(page, "done")
    answer = page.text(ANSWER)
    workflow = page.saved()
    another = visit()
    another.load(workflow)
    assert another.text(ANSWER) == ""
    _queue(another)
    another.wait_text(ANSWER, answer)
    assert another.prompt_inputs(node)["model"] == MODEL


@pytest.mark.parametrize("phase", ["loading", "prompt", "answering"])
def test_stop_ends_it_in_every_phase(visit, comfy, phase):
    page = visit()
    gate = comfy.emulator.hold(phase)
    _chat(page, f"Hello {uuid.uuid4()} [[words=200]]")
    _queue(page)
    comfy.emulator.reached(gate)
    page.page.locator(".lmbridge-stop").click()
    _phase(page, "cancelled")
    comfy.emulator.release()
    assert page.problems == []


def test_comfyui_s_own_cancel_is_shown(visit, comfy):
    page = visit()
    gate = comfy.emulator.hold("answering", after=2)
    _chat(page, f"Hello {uuid.uuid4()} [[words=200]]")
    _queue(page)
    comfy.emulator.reached(gate)
    page.page.evaluate("() => app.extensionManager.command.execute('Comfy.Interrupt')")
    _phase(page, "cancelled")


def test_a_reload_in_the_middle_loses_nothing(visit, comfy):
    page = visit()
    gate = comfy.emulator.hold("answering", after=5)
    _chat(page, f"Hello {uuid.uuid4()} [[words=30]]")
    page.load(page.saved() | {"id": str(uuid.uuid4())})
    _queue(page)
    comfy.emulator.reached(gate)
    page.page.wait_for_function(f"() => document.querySelector('{ANSWER}').textContent.length > 3")
    workflow = page.saved()
    page.reload()
    page.load(workflow)
    comfy.emulator.release()
    _phase(page, "done")
    assert len(page.text(ANSWER).split()) >= 25


def test_only_the_page_that_queued_shows_the_answer(visit):
    one, other = visit(), visit()
    node = _chat(one, f"Hello {uuid.uuid4()} [[words=8]]")
    workflow = one.saved()
    other.load(workflow)
    _queue(one)
    _phase(one, "done")
    assert one.text(ANSWER)
    assert other.text(ANSWER) == ""
    assert node


def test_an_answer_in_a_subgraph(visit, renderer):
    page = visit(renderer)
    _chat(page, f"Hello {uuid.uuid4()} [[words=8]]")
    inner = page.page.evaluate(
        """() => {
          const node = app.rootGraph.nodes[0];
          app.canvas.selectItems([node]);
          const { node: host } = app.rootGraph.convertToSubgraph(new Set([node]));
          return String(host.id);
        }"""
    )
    _queue(page)
    page.page.evaluate("(id) => app.canvas.setGraph(nodeAt(id).subgraph)", inner)
    _phase(page, "done")
    assert page.text(ANSWER)


def test_a_server_that_is_gone(visit, renderer):
    page = visit(renderer)
    _chat(page, "Hello", connection="gone", model="any")
    page.page.wait_for_selector(".lmbridge-dot[data-state='down']")
    assert page.text(".lmbridge-why") != ""
    _queue(page)
    _phase(page, "failed")
    assert page.text(ANSWER) == ""
    assert len(page.text(STATUS)) > 10


def test_models_of_the_real_server(visit, comfy):
    page = visit()
    node = _chat(page, "Hello")
    page.page.wait_for_function("(id) => widgetAt(id, 'model').options.values.length > 3", arg=node)
    labels = page.options(node, "model")
    assert any("vision" in label for label in labels.values())
    assert any("thinking" in label for label in labels.values())


def test_the_sidebar_loads_and_unloads(visit):
    page = visit()
    page.page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleSidebarTab.lmbridge')")
    page.page.locator(".lmbridge-sidebar summary", has_text="lmstudio-rest").first.click()
    page.page.get_by_label(f"Load: {MODEL}", exact=True).click()
    page.page.get_by_label(f"Unload: {MODEL}", exact=True).click()
    page.page.get_by_label(f"Load: {MODEL}", exact=True).wait_for()
    assert page.problems == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load(visit, path):
    page = visit()
    page.load(json.loads(path.read_text(encoding="utf-8")))
    page.page.wait_for_selector(".lmbridge-panel")
    missing = page.page.evaluate(
        "() => app.rootGraph.nodes.filter((node) => node.has_errors).map((node) => node.type)"
    )
    assert missing == []
    assert page.problems == []


@pytest.mark.parametrize("name", ["prompt_enhancer", "two_backends"])
def test_examples_run(visit, name):
    page = visit()
    page.load(_example(name))
    for node in _example(name)["nodes"]:
        if node["type"] == "LMBridge_Chat":
            page.choose(str(node["id"]), "model", MODEL)
    _queue(page)
    panels = page.page.locator(".lmbridge-panel[data-phase='done']")
    count = sum(node["type"] == "LMBridge_Chat" for node in _example(name)["nodes"])
    page.page.wait_for_function(
        "(n) => document.querySelectorAll(\".lmbridge-panel[data-phase='done']\").length === n", arg=count
    )
    assert all(panels.nth(each).locator(ANSWER).text_content() for each in range(count))


def test_help_pages_are_where_the_page_looks(visit):
    page = visit()
    scripts = page.page.evaluate("async () => (await fetch('/extensions')).json()")
    script = next(path for path in scripts if path.endswith("/lmbridge.js"))
    for name in ("LMBridge_Chat", "LMBridge_Options", "LMBridge_Models"):
        path = script.replace("lmbridge.js", f"docs/{name}.md")
        assert page.page.evaluate("async (path) => (await fetch(path)).status", path) == 200


def test_the_double_has_the_real_nodes(comfy):
    known = json.loads((ROOT / "tests" / "frontend" / "nodes.json").read_text(encoding="utf-8"))
    for name, node in known.items():
        address = f"{comfy.url}/object_info/{name}"
        with urllib.request.urlopen(address, timeout=30) as response:  # noqa: S310 - our own server
            real = json.load(response)[name]
        assert real["input_order"] == node["input_order"]
        assert (real["output"], real["output_name"]) == (node["output"], node["output_name"])
        for group in ("required", "optional"):
            for each, (kind, options) in node["input"].get(group, {}).items():
                assert real["input"][group][each][0] == kind
                if each != "connection":  # the real server has one more
                    assert real["input"][group][each][1] == options
