"""Which lmbridge the nodes work with, and that a clone needs no installation."""

import os
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Pack = Callable[[str], ModuleType]
Run = Callable[..., str]

ROOT = Path(__file__).resolve().parents[3]
#: Loads the pack as ComfyUI does: a module whose name is a path.
LOADER = """
import importlib.util, sys, types
sys.path.insert(0, {double!r})
import double
comfy = double.Double()
sys.modules.update(comfy.modules())
folder = {folder!r}
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every installed package but lmbridge."""
    folder = tmp_path_factory.mktemp("packages")
    for place in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        for item in place.iterdir():
            kept = "lmbridge" not in item.name and item.suffix != ".pth" and item.name != "__pycache__"
            if kept and not (folder / item.name).exists():
                (folder / item.name).symlink_to(item)
    return folder


@pytest.fixture
def run(packages: Path) -> Run:
    """Run code in an interpreter that has our dependencies, but no lmbridge unless it is in ``path``."""

    def work(folder: Path, code: str, *, path: Path | None = None) -> str:
        return _run(folder, code, [str(place) for place in (path, packages) if place is not None])

    return work


def _run(folder: Path, code: str, path: list[str]) -> str:
    loader = LOADER.format(double=str(ROOT / "tests/comfy"), folder=str(folder))
    script = f"import sys\nsys.path += {path!r}\n" + textwrap.dedent(loader) + textwrap.dedent(code)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in a folder with dots and dashes in its name."""
    folder = tmp_path / "lm-bridge.v1.2-main"
    folder.mkdir()
    for name in ("__init__.py", "pyproject.toml", "comfy_nodes", "lmbridge", "providers"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def installed(folder: Path, version: str) -> Path:
    """An installed lmbridge of some version, that does nothing."""
    (folder / "lmbridge").mkdir(parents=True)
    (folder / "lmbridge" / "__init__.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    metadata = folder / f"lmbridge-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: lmbridge\nVersion: {version}\n", encoding="utf-8")
    return folder


IMPORT = """
extension = module.comfy_entrypoint()
import lmbridge
print(lmbridge.__version__, lmbridge.__file__)
"""


def test_importing_the_entry_imports_nothing(run: Run, clone: Path) -> None:
    assert run(clone, "print('lmbridge' in sys.modules, module.WEB_DIRECTORY)") == "False ./web/comfyui"


def test_a_clone_brings_its_own(run: Run, clone: Path) -> None:
    assert run(clone, IMPORT).endswith(str(ROOT / "lmbridge" / "__init__.py"))


def test_nothing_else_of_the_clone_becomes_importable(run: Run, clone: Path) -> None:
    code = IMPORT + "import importlib.util\nprint(importlib.util.find_spec('comfy_nodes'))"
    assert run(clone, code).endswith("None")


def test_the_shipped_providers_come_from_the_clone(run: Run, clone: Path) -> None:
    code = """
    module.comfy_entrypoint()
    from lmbridge.plugins import Plugins
    plugins = Plugins()
    print(sorted(plugins.providers), plugins.info("lmstudio-rest").title)
    """
    told = run(clone, code)
    assert "lmstudio-rest" in told
    assert "openai-compat" in told


def test_an_installed_one_that_is_newer_is_used(run: Run, clone: Path, tmp_path: Path) -> None:
    told = run(clone, IMPORT, path=installed(tmp_path / "site", "99.0"))
    assert told.startswith("99.0 ")


def test_an_installed_one_that_is_older_is_passed_over(run: Run, clone: Path, tmp_path: Path) -> None:
    told = run(clone, IMPORT, path=installed(tmp_path / "site", "0.0.1"))
    assert told.endswith(str(ROOT / "lmbridge" / "__init__.py"))


def test_an_older_one_that_is_imported_already_is_refused(run: Run, clone: Path, tmp_path: Path) -> None:
    code = """
    import lmbridge
    try:
        module.comfy_entrypoint()
    except ImportError as error:
        print(error)
    """
    told = run(clone, code, path=installed(tmp_path / "site", "0.0.1"))
    assert "cannot use the older lmbridge 0.0.1" in told
    assert told.endswith("pip install --upgrade lmbridge")
    assert "\n" not in told


def test_the_start_of_comfyui_imports_little(run: Run, clone: Path) -> None:
    code = """
    before = set(sys.modules)
    import asyncio
    async def load():
        extension = module.comfy_entrypoint()
        await extension.on_load()
        for node in await extension.get_node_list():
            node.define_schema()
    asyncio.run(load())
    heavy = {"lmbridge", "msgspec", "pluggy", "pydantic", "lmstudio", "openai", "PIL", "numpy", "httptools"}
    print(sorted(heavy & set(sys.modules)))
    """
    assert run(clone, code) == "[]"


def test_the_version_is_that_of_the_project(pack: Pack) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pack("importing").pack_version(ROOT) == project["version"]


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("0.1.0", "0.1.0", False),
        ("0.1", "0.1.0", True),
        ("0.9.9", "0.10.0", True),
        ("1.0.0", "0.10.0", False),
        ("0.2.0rc1", "0.2.0", False),
        ("0.1.0+local.9", "0.1.0", False),
        ("", "0.1.0", True),
    ],
)
def test_versions(pack: Pack, version: str, than: str, older: bool) -> None:
    assert pack("importing").is_older(version, than) is older
