"""The example of a third-party provider works as a package of its own, found by its metadata."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "lmbridge-acme"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def environ(tmp_path):
    """The environment of a Python that has the example installed: what pip would have written, on a path."""
    folder = tmp_path / f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    folder.mkdir()
    name, version = PROJECT["name"], PROJECT["version"]
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")
    lines = []
    for group, points in PROJECT["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths = [tmp_path, EXAMPLE, ROOT, ROOT / "providers"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"}


def run(environ, *arguments: str, seconds: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLE,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )


@pytest.mark.timeout(200)
def test_its_own_tests_pass_and_with_them_the_conformance_kit(environ):
    done = run(environ, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", seconds=180)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed, (\d+) skipped", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50, done.stdout
    assert int(passed[2]) == 4, done.stdout  # no reasoning, tools, health; no word about missing models


def test_it_is_listed_with_its_distribution_and_its_settings(environ):
    done = run(environ, "-m", "lmbridge", "providers", "--load")
    assert ["acme", "provider", "lmbridge-acme", "0.1.0", "loaded"] in [
        line.split()[:5] for line in done.stdout.splitlines()
    ], done.stdout + done.stderr
    environ["LMBRIDGE_CONNECTIONS__ACME__ACCENT"] = "pirate"
    for name in ("LMBRIDGE_CONFIG_FILE", "LMBRIDGE_ENV_FILE"):
        environ.pop(name, None)
    shown = run(environ, "-m", "lmbridge", "config")
    assert shown.returncode == 0, shown.stderr
    assert "pirate" in shown.stdout
    environ["LMBRIDGE_CONNECTIONS__ACME__ACCENTS"] = "pirate"
    assert "LMBRIDGE_CONNECTIONS__ACME__ACCENTS" in run(environ, "-m", "lmbridge", "config").stderr


def test_without_its_metadata_it_is_not_there(environ):
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "providers")])
    assert "acme" not in run(environ, "-m", "lmbridge", "providers").stdout
