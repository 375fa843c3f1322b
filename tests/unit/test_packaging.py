"""What is in the wheel and in the sdist."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"lmbridge", "lmbridge_lmstudio_rest", "lmbridge_lmstudio_sdk", "lmbridge_openai"}

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="needs the source tree: run the tests from a checkout"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both from the source tree, as a release does, with the build backend itself."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install hatchling")
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def sources(package: str) -> set[str]:
    folder = ROOT / package if package == "lmbridge" else ROOT / "providers" / package
    return {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    code = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in code} == PACKAGES
    assert code == set().union(*map(sources, PACKAGES))
    assert {f"{package}/py.typed" for package in PACKAGES} <= code


def test_the_wheel_declares_entry_points_licence_and_only_lower_bounds(built):
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
    points = archive.read(f"{info}/entry_points.txt").decode()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert set(declared) >= {"lmbridge.providers", "pytest11"}
    for name, value in (item for group in declared.values() for item in group.items()):
        assert f"{name} = {value}" in points
    metadata = archive.read(f"{info}/METADATA").decode()
    assert f"{info}/licenses/LICENSE" in archive.namelist()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert required
    assert not [line for line in required if "<" in line or "~=" in line]
    assert not [line for line in required if "torch" in line or "transformers" in line]


def test_the_sdist_can_build_and_test_itself(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tox.ini", "CHANGELOG.md", "tests/conftest.py"} <= names
    assert set().union(*({f"providers/{n}" for n in sources(p)} for p in PACKAGES - {"lmbridge"})) <= names
    assert sources("lmbridge") <= names
    hidden = {part for name in names for part in name.split("/") if part.startswith(".")}
    assert hidden <= {".gitignore", ".npmrc", ".pre-commit-config.yaml"}, "caches stay at home"
    assert not [name for name in names if "__pycache__" in name]
