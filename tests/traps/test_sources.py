"""Every test here says which trap it is about, and where somebody met it."""

import ast
from pathlib import Path

import pytest

TESTS = [
    pytest.param(path, node, id=f"{path.stem}::{node.name}")
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path != Path(__file__)
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
]


@pytest.mark.parametrize(("path", "node"), TESTS)
def test_a_trap_is_stated_with_its_public_source(path: Path, node: ast.FunctionDef) -> None:
    sentence, _, source = (ast.get_docstring(node) or "").partition("\n\nSource: ")
    assert sentence.endswith("."), "say in one sentence what the trap is"
    assert source.endswith("."), "end with 'Source: …', a public thread, document or package"
    assert ".md" not in source
