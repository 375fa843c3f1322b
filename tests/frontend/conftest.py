"""Pages with the real frontend of ComfyUI, in Chromium, in front of a double of its server."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _load(name: str) -> Any:
    qualified = f"lmbridge_frontend_{name}"
    if qualified not in sys.modules:
        spec = importlib.util.spec_from_file_location(qualified, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[qualified] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[qualified])
    return sys.modules[qualified]


def _chromium() -> str:
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if not found:
        pytest.skip(
            "there is no Chromium: install it (Debian: apt-get install chromium) or name one in CHROMIUM"
        )
    return found


def _frontends() -> dict[str, Path]:
    """The frontends to test: those that COMFYUI_FRONTENDS names, else the installed one."""
    named = os.environ.get("COMFYUI_FRONTENDS", "")
    if named:
        return {Path(path).name: Path(path) for path in named.split(os.pathsep)}
    spec = importlib.util.find_spec("comfyui_frontend_package")
    if spec is None or not spec.submodule_search_locations:
        return {}
    version = importlib.metadata.version("comfyui-frontend-package")
    return {version: Path(spec.submodule_search_locations[0]) / "static"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))  # a page takes its time on a loaded machine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "frontend" in metafunc.fixturenames:
        found = _frontends()
        missing = pytest.mark.skip(
            reason="comfyui-frontend-package is not installed: pip install --group frontend"
        )
        none = [pytest.param(None, marks=missing, id="none")]
        metafunc.parametrize(
            "frontend", [pytest.param(p, id=v) for v, p in found.items()] or none, scope="session"
        )
    if "renderer" in metafunc.fixturenames:
        metafunc.parametrize("renderer", ["classic", "vue"])


# Not for the session: while it runs, no test of this thread can have an event loop of its own.
@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install --group frontend"
    )
    executable = _chromium()
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def double(frontend):
    """The server's double, with three connections, not yet visited."""
    module = _load("double")
    nodes = {}
    for name in ("nodes.json", "core_nodes.json"):
        nodes |= json.loads((HERE / name).read_text(encoding="utf-8"))
    server = module.usual(frontend, nodes)
    yield server
    if server.url:
        server.stop()


@pytest.fixture
def visit(browser, double):
    """Open the page: `visit()` for a page of its own, with its own storage."""
    canvas = _load("canvas")
    contexts = []

    def visit(renderer: str = "classic", **settings: Any) -> Any:
        double.settings["Comfy.VueNodes.Enabled"] = renderer == "vue"
        double.settings.update(settings)
        if not double.url:
            double.start()
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        contexts.append(context)
        canvas_ = canvas.Canvas(context.new_page(), double)
        canvas_.open()
        return canvas_

    yield visit
    for context in contexts:
        context.close()
