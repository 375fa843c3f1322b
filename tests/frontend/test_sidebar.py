"""The sidebar tab, the settings, the languages, and where the page lives."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLICY = (
    "default-src 'self'; connect-src 'self'; object-src 'none'; img-src 'self' data: blob:; "
    "font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:"
)
LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir())


def _open(page):
    page.page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleSidebarTab.lmbridge')")
    page.page.wait_for_selector(".lmbridge-sidebar details")


def test_it_shows_connections_and_models(visit):
    page = visit()
    _open(page)
    page.wait_text(".lmbridge-sidebar", "lmstudio-rest")
    page.wait_text(".lmbridge-sidebar", "192.168.1.5:8080")
    page.page.locator(".lmbridge-sidebar summary", has_text="lmstudio-rest").click()
    page.wait_text(".lmbridge-models", "qwen3-vl-4b")
    page.wait_text(".lmbridge-models", "loaded · vision · 8K context")
    page.wait_text(".lmbridge-sidebar", "Nobody answers at 127.0.0.1:1234.")
    assert page.problems == []


def test_it_loads_and_unloads(visit):
    page = visit()
    _open(page)
    page.page.locator(".lmbridge-sidebar summary", has_text="lmstudio-rest").click()
    page.page.get_by_label("Unload: qwen3-vl-4b").click()
    page.page.get_by_label("Load: gpt-oss-20b").click()
    for _ in range(200):
        if len(page.double.posted) == 2:
            break
        page.page.wait_for_timeout(50)
    assert page.double.posted == [
        ("models/unload", {"connection": "lmstudio-rest", "model": "qwen3-vl-4b"}, 200),
        ("models/load", {"connection": "lmstudio-rest", "model": "gpt-oss-20b"}, 200),
    ]


def test_it_shows_what_failed(visit):
    page = visit()
    page.double.plugins = [
        {
            "name": "acme",
            "kind": "provider",
            "state": "failed",
            "failure": "No module named 'acme'.",
            "fix": "pip install acme",
        },
        {"name": "openai-compat", "kind": "provider", "state": "loaded", "failure": None, "fix": None},
    ]
    page.double.errors = [
        {"time": 1700000000, "connection": "lmstudio-rest", "message": "<b>It broke.</b>", "hint": "Mend it."}
    ]
    _open(page)
    page.wait_text(".lmbridge-sidebar", "No module named 'acme'.")
    page.wait_text(".lmbridge-sidebar", "pip install acme")
    page.wait_text(".lmbridge-sidebar", "<b>It broke.</b>")


def test_it_works_in_chinese(visit):
    page = visit(**{"Comfy.Locale": "zh"})
    node = page.chat()
    page.stream(node, {"phase": "loading model", "fraction": 0.5})
    page.wait_text(".lmbridge-status", "正在加载模型")


def test_it_works_behind_a_path_and_a_strict_policy(visit, double, renderer):
    double.prefix = "/studio/one"
    double.headers = {"Content-Security-Policy": POLICY}
    page = visit(renderer)
    node = page.chat(connection="lmstudio-rest")
    page.page.wait_for_function(
        "(id) => widgetAt(id, 'model').options.values.includes('qwen3-vl-4b')", arg=node
    )
    page.stream(node, {"text": "behind a proxy"})
    page.wait_text(".lmbridge-answer", "behind a proxy")
    styled = page.page.locator(".lmbridge-panel").evaluate("(element) => getComputedStyle(element).display")
    assert styled == "flex"
    assert all(path.startswith("/studio/one/") for path in double.asked)
    assert page.problems == []


def test_the_page_says_that_it_runs_the_script(visit):
    page = visit()
    client = page.page.evaluate("() => import('../../scripts/api.js').then(({ api }) => api.clientId)")
    for _ in range(200):
        if page.double.asked:
            break
        page.page.wait_for_timeout(50)
    assert f"/api/lmbridge/session?client={client}" in page.double.asked


def _keys(tree, path=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def _texts(language, name):
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def test_languages_have_the_same_keys():
    for name in ("main", "nodeDefs", "settings", "commands"):
        keys = {language: set(_keys(_texts(language, name))) for language in LANGUAGES}
        assert all(each == keys["en"] for each in keys.values()), name


def test_languages_fill_in_the_same_values():
    english = dict(_flat(_texts("en", "main")))
    for language in LANGUAGES:
        for key, text in _flat(_texts(language, "main")):
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key])), (
                language,
                key,
            )


def _flat(tree, path=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_the_built_in_english_is_the_locale_file(visit):
    page = visit()
    own = page.page.evaluate(
        "() => import('./extensions/lmbridge/lmbridge/english.mjs').then((m) => m.ENGLISH)"
    )
    assert own == _texts("en", "main")["lmbridge"]


def test_settings_and_commands_are_translated(visit):
    page = visit()
    settings = page.page.evaluate(
        """() => Object.values(app.extensionManager.setting.settings)
             .map((each) => [each.id, each.name, each.tooltip]).filter(([id]) => id.startsWith("lmbridge"))"""
    )
    named = {identity.replace(".", "_"): {"name": name, "tooltip": tip} for identity, name, tip in settings}
    assert named == _texts("en", "settings")
    commands = page.page.evaluate(
        """() => app.extensionManager.command.commands
             .map((each) => [each.id, each.label]).filter(([id]) => id.startsWith("lmbridge."))"""
    )
    assert {identity.replace(".", "_"): {"label": label} for identity, label in commands} == _texts(
        "en", "commands"
    )


def test_every_input_of_every_node_is_named():
    nodes = json.loads((ROOT / "tests" / "frontend" / "nodes.json").read_text(encoding="utf-8"))
    named = _texts("en", "nodeDefs")
    for name, node in nodes.items():
        inputs = {each for group in ("required", "optional") for each in node["input_order"].get(group, [])}
        assert set(named[name]["inputs"]) == inputs
        for group in ("required", "optional"):
            for each in node["input_order"].get(group, []):
                assert named[name]["inputs"][each]["tooltip"] == node["input"][group][each][1]["tooltip"]
