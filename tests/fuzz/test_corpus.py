"""The corpus of the fuzzer, replayed: seeds from real wires, and all that fuzzing has found since."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
CORPUS = sorted(path for path in (FUZZ / "corpus").glob("*/*") if path.is_file())


@pytest.fixture(scope="module")
def targets() -> dict[str, Callable[[bytes], None]]:
    spec = importlib.util.spec_from_file_location("lmbridge_fuzz_targets", FUZZ / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TARGETS


@pytest.mark.parametrize("name", ["addresses", "reasoning", "sse"])
def test_every_input_of_the_corpus_keeps_the_promises(targets, name):
    files = [path for path in CORPUS if path.parent.name == name]
    assert len(files) >= 10
    for path in files:
        try:
            targets[name](path.read_bytes())
        except AssertionError as exc:
            exc.add_note(f"with {path}")
            raise


def test_every_target_has_a_corpus_and_every_corpus_a_target(targets):
    assert {path.parent.name for path in CORPUS} == set(targets)


def test_the_files_are_small():
    assert max(path.stat().st_size for path in CORPUS) <= 16 * 1024


@pytest.mark.parametrize("name", ["addresses", "reasoning", "sse"])
def test_inputs_of_no_sense_at_all(targets, name):
    for data in (b"", b"\0", b"\xff" * 1000, bytes(range(256)) * 4, b"\r\n" * 500, b"[" * 3000, b"<" * 3000):
        targets[name](data)
