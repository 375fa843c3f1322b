"""A small double of ComfyUI, so that the nodes can be tested where there is none.

``tests/comfy/real`` compares it with a real one when ``COMFYUI_DIR`` is set.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path) -> ModuleType:
    """Import a file or package under a name of its own, as ComfyUI imports packs."""
    search = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_double = load("lmbridge_tests_comfy_double", Path(__file__).parent / "double.py")
#: Dots and dashes, as in a clone's folder; ComfyUI writes dots as ``_x_``.
_PACK = "/some where/custom_nodes/lm-bridge_x_pack"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double, in the place of ComfyUI's modules."""
    double = _double.Double()
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return double


@pytest.fixture
def pack(host: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the pack as ComfyUI does, fresh for each test: ``pack("chat_node")``."""
    load(_PACK, ROOT / "__init__.py")

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"{_PACK}.comfy_nodes.{name}")

    yield module
    for name in [name for name in sys.modules if name.startswith(_PACK)]:
        del sys.modules[name]


@pytest.fixture
def double_module() -> ModuleType:
    return _double
