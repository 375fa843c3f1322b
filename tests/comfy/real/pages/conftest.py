"""Pages of the real ComfyUI in Chromium."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

FRONTEND = Path(__file__).parents[3] / "frontend"
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.58.1",
    "Comfy.Release.Status": "skipped",
    "Comfy.Workflow.Persist": False,
}


def _load(name: str, path: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _post(url: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - our own server
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install --group frontend")
    frontend = _load("lmbridge_frontend_conftest", FRONTEND / "conftest.py")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=frontend._chromium(), args=["--no-sandbox"])
        yield started
        started.close()


class Place:
    """What a canvas asks of the server's double, of the real one."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/"


@pytest.fixture
def visit(browser, comfy):
    """Open a page of its own, with its own storage, on a server that has nothing loaded and nothing to do."""
    canvas = _load("lmbridge_frontend_canvas", FRONTEND / "canvas.py")
    shutil.copy(Path(__file__).with_name("example.png"), comfy.base / "input" / "example.png")
    comfy.emulator.reset()
    contexts = []

    def visit(renderer: str = "classic") -> Any:
        _post(f"{comfy.url}/settings", QUIET | {"Comfy.VueNodes.Enabled": renderer == "vue"})
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        contexts.append(context)
        opened = canvas.Canvas(context.new_page(), Place(comfy.url))
        opened.open()
        return opened

    yield visit
    comfy.emulator.release()
    _post(f"{comfy.url}/queue", {"clear": True})
    _post(f"{comfy.url}/interrupt", {})
    for context in contexts:
        context.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "renderer" in metafunc.fixturenames:
        metafunc.parametrize("renderer", ["classic", "vue"])
