"""The dropdowns of connections and models, and the state of the connection on the node."""

from __future__ import annotations

import pytest

HOSTILE = "<img src=x onerror='window.hacked=true'>"


def _filled(page, node, value, name="model"):
    page.page.wait_for_function(
        "([id, name, value]) => widgetAt(id, name).options.values.includes(value)", arg=[node, name, value]
    )


def test_the_list_is_filled_from_the_connection(visit, renderer):
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    assert page.options(node, "model") == {
        "automatic": "automatic",
        "qwen3-vl-4b": "qwen3-vl-4b · loaded · vision · 8K context",
        "gpt-oss-20b": "gpt-oss-20b · thinking · 128K context",
        "Type a name…": "Type a name…",
    }
    page.choose(node, "connection", "openai-compat")
    _filled(page, node, "llama-3.2")
    assert "qwen3-vl-4b" not in page.options(node, "model")
    assert page.problems == []


def test_the_dropdown_shows_what_the_models_can_do(visit):
    page = visit("vue")
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    page.page.get_by_text("automatic", exact=True).first.click()
    page.page.get_by_text("qwen3-vl-4b · loaded · vision · 8K context").last.click()
    page.page.wait_for_function("(id) => widgetAt(id, 'model').value === 'qwen3-vl-4b'", arg=node)
    page.wait_text(".lmbridge-head", "loaded · vision · 8K context")


@pytest.mark.parametrize("saved", ["gone-model", "gpt-oss-20b"])
def test_a_saved_model_is_never_overwritten(visit, renderer, saved):
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest", model=saved)
    workflow = page.saved()
    page.page.evaluate("() => app.rootGraph.clear()")
    page.load(workflow)
    _filled(page, node, "qwen3-vl-4b")
    page.page.locator(".lmbridge-refresh").click()
    page.page.wait_for_function("() => true")
    assert page.widget(node, "model") == saved
    assert page.prompt_inputs(node)["model"] == saved
    label = page.options(node, "model")[saved]
    assert ("⚠" in label) == (saved == "gone-model")


def test_a_connection_of_a_plugin_that_is_gone_is_kept_and_marked(visit, renderer):
    page = visit(renderer)
    node = page.chat(connection="acme", model="acme-1")
    _filled(page, node, "acme", "connection")
    page.wait_text(".lmbridge-why", "no such connection")
    assert page.options(node, "connection")["acme"] == "⚠ acme (not installed)"
    assert page.prompt_inputs(node)["connection"] == "acme"
    assert page.prompt_inputs(node)["model"] == "acme-1"
    # The values behind it stay in their places.
    assert page.prompt_inputs(node)["max_tokens"] == -1


def test_a_connection_that_is_down_says_why(visit, renderer):
    page = visit(renderer)
    page.chat(connection="lmstudio-sdk")
    page.wait_text(".lmbridge-why", "Nobody answers at 127.0.0.1:1234. Start LM Studio's server.")
    assert page.page.locator(".lmbridge-head .lmbridge-dot").get_attribute("data-state") == "down"


def test_refresh_asks_the_server_again(visit, renderer):
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    page.double.models["lmstudio-rest"]["models"].append({"id": "new-model", "kind": "llm"})
    page.page.locator(".lmbridge-refresh").click()
    _filled(page, node, "new-model")
    assert "/api/lmbridge/models?connection=lmstudio-rest&refresh=1" in page.double.asked


def test_answers_of_the_server_are_remembered(visit):
    page = visit()
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    asked = [path for path in page.double.asked if "models?" in path and "lmstudio-rest" in path]
    page.choose(node, "connection", "openai-compat")
    _filled(page, node, "llama-3.2")
    page.choose(node, "connection", "lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    assert [path for path in page.double.asked if "models?" in path and "lmstudio-rest" in path] == asked


def test_comfyui_s_own_refresh_keeps_list_and_value(visit):
    page = visit()
    node = page.chat(connection="lmstudio-rest", model="gpt-oss-20b")
    _filled(page, node, "qwen3-vl-4b")
    page.page.evaluate("() => app.refreshComboInNodes()")
    _filled(page, node, "qwen3-vl-4b")
    assert page.widget(node, "model") == "gpt-oss-20b"


def test_with_an_image_only_models_that_can_see_are_listed(visit):
    page = visit()
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "gpt-oss-20b")
    page.page.evaluate(
        """(id) => {
          const image = LiteGraph.createNode("LoadImage");
          app.rootGraph.add(image);
          const chat = nodeAt(id);
          image.connect(0, chat, chat.inputs.findIndex((input) => input.name === "image"));
        }""",
        node,
    )
    page.page.wait_for_function(
        "(id) => !widgetAt(id, 'model').options.values.includes('gpt-oss-20b')", arg=node
    )
    assert "qwen3-vl-4b" in page.options(node, "model")


def test_typing_a_name(visit, renderer):
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, "qwen3-vl-4b")
    page.choose(node, "model", "Type a name…")
    assert page.prompt_inputs(node)["model"] == "automatic"  # never the entry itself
    field = page.page.locator(".p-dialog input, [role=dialog] input").last
    field.fill("mine/own-7b")
    field.press("Enter")
    page.page.wait_for_function("(id) => widgetAt(id, 'model').value === 'mine/own-7b'", arg=node)
    assert "mine/own-7b" in page.options(node, "model")


def test_names_of_models_are_no_markup(visit):
    page = visit()
    page.double.models["lmstudio-rest"]["models"] = [{"id": HOSTILE, "kind": "llm"}]
    node = page.chat(connection="lmstudio-rest")
    _filled(page, node, HOSTILE)
    label = page.options(node, "model")[HOSTILE]
    assert "<" not in label
    place = page.page.evaluate(
        """(id) => {
          const node = nodeAt(id), widget = widgetAt(id, "model");
          const { offset, scale } = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
          const x = node.pos[0] + node.size[0] / 2, y = node.pos[1] + (widget.last_y ?? widget.y) + 10;
          return [box.left + (x + offset[0]) * scale, box.top + (y + offset[1]) * scale];
        }""",
        node,
    )
    page.page.mouse.click(*place)
    page.page.wait_for_selector(".litecontextmenu")
    assert page.page.locator(".litecontextmenu img").count() == 0
    assert page.page.evaluate("() => window.hacked") is None


def test_without_our_routes_the_node_says_so_and_still_works(visit):
    page = visit()
    page.page.route("**/lmbridge/**", lambda route: route.abort())
    node = page.chat(connection="lmstudio-rest", model="kept")
    page.page.locator(".lmbridge-refresh").click()
    page.wait_text(".lmbridge-why", "does not answer")
    page.stream(node, {"text": "still here"})
    page.wait_text(".lmbridge-answer", "still here")
    assert page.prompt_inputs(node)["model"] == "kept"
