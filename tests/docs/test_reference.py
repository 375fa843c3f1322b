"""The generated parts of the reference are as the code is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = ("cli.md", "emulator.md", "errors.md", "events.md", "hooks.md", "testing.md")


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "providers")])
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_reference.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


def test_the_reference_is_up_to_date():
    done = make("--check")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def copy(tmp_path):
    for name in PAGES:
        shutil.copy(REFERENCE / name, tmp_path)
    return tmp_path


def test_a_stale_page_is_noticed_and_mended(copy):
    stale = copy / "events.md"
    whole = stale.read_text(encoding="utf-8")
    stale.write_text(whole.replace("### TextDelta", "### Text"), encoding="utf-8")
    done = make("--check", copy)
    assert done.returncode == 1
    assert "events.md" in done.stderr
    assert make(copy).returncode == 0
    assert stale.read_text(encoding="utf-8") == whole


def test_a_page_without_its_marks_is_refused(copy):
    (copy / "hooks.md").write_text("# Hooks\n", encoding="utf-8")
    done = make("--check", copy)
    assert done.returncode != 0
    assert "no part named" in done.stderr


def test_what_authors_and_users_meet_is_in_the_reference():
    pages = {name: (REFERENCE / name).read_text(encoding="utf-8") for name in PAGES}
    for error in ("ModelNotFound", "TimedOut", "ImageRejected"):
        assert f"| `{error}` |" in pages["errors.md"]
    for event in ("Progress", "ReasoningDelta", "Finish"):
        assert f"### {event}\n" in pages["events.md"]
    for hook in ("generate", "stream", "list_models", "presets"):
        assert f"### {hook}\n" in pages["hooks.md"]
    for command in ("chat", "demo", "emulator", "config", "providers", "models load"):
        assert f"## lmbridge {command}\n" in pages["cli.md"]
    assert "`--image`, `-i` PATH (repeatable)" in pages["cli.md"]
    kit = (
        "script(server, turn)",
        "test_reasoning_is_apart",
        "await until(condition, seconds)",
        "blind_model",
    )
    for name in kit:
        assert f"| `{name}` |" in pages["testing.md"]
    for row in (
        "| `POST /v1/messages` |",
        "| `predict` (llm) |",
        "| `chat.end` |",
        "| `fragment` |",
        "| `jit` |",
        "| no token |",
    ):
        assert row in pages["emulator.md"], row
