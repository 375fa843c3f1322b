"""Answers in the metadata of pictures."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lmbridge.chat import Options
from lmbridge.events import Result, Usage

Pack = Callable[[str], ModuleType]


def graph(prompt: str = "a", **inputs: Any) -> dict[str, Any]:
    given = {"connection": "c", "model": "m", "prompt": prompt, "save_answer": True, **inputs}
    return {"1": {"class_type": "LMBridge_Chat", "inputs": given}}


@pytest.fixture
def saved(pack: Pack) -> Any:
    return pack("saved").SavedAnswers()


@pytest.fixture
def answer(pack: Pack) -> Any:
    result = Result(
        text="a cat",
        reasoning="secretly thought",
        usage=Usage(completion_tokens=3),
        model="m",
        options=Options(seed=1, stop=["x"], extra={"a": 1}),
    )
    return pack("values").Answer(result, "c")


def test_an_answer_is_put_into_its_own_prompt(saved: Any, answer: Any) -> None:
    metadata: dict[str, Any] = {"workflow": {}}
    saved.answered(graph(), "1", metadata, [answer])
    (record,) = metadata["lmbridge"]["1"]["answers"]
    assert record["text"] == "a cat"
    assert record["settings"] == {"seed": 1, "stop": ["x"], "extra": {"a": 1}}
    assert record["usage"] == {"completion_tokens": 3}
    assert "secretly" not in json.dumps(metadata)


def test_and_into_a_later_one_with_the_same_inputs(saved: Any, answer: Any) -> None:
    saved.answered(graph(), "1", {}, [answer])
    same: dict[str, Any] = {}
    saved.queued(graph(), same)
    assert same["lmbridge"]["1"]["answers"][0]["text"] == "a cat"
    for other in (graph("b"), graph(rerun="always new"), graph(save_answer=False), graph(save_answer="yes")):
        metadata: dict[str, Any] = {}
        saved.queued(other, metadata)
        assert metadata == {}


def test_and_into_one_that_was_queued_while_it_was_written(saved: Any, answer: Any) -> None:
    waiting: dict[str, Any] = {}
    other: dict[str, Any] = {}
    saved.queued(graph(), waiting)
    saved.queued(graph("b"), other)
    saved.answered(graph(), "1", None, [answer])
    assert waiting["lmbridge"]["1"]["answers"]
    assert other == {}


def test_several_nodes_share_the_metadata(saved: Any, answer: Any) -> None:
    metadata: dict[str, Any] = {"lmbridge": "somebody else's"}
    two = {**graph(), "2": graph("b")["1"]}
    saved.answered(two, "1", metadata, [answer])
    before = metadata["lmbridge"]
    saved.answered(two, "2", metadata, [answer])
    assert set(metadata["lmbridge"]) == {"1", "2"}
    assert set(before) == {"1"}  # ComfyUI may have been writing it


def test_memory_is_bounded(saved: Any, answer: Any) -> None:
    for number in range(1000):
        saved.queued(graph(str(number)), {})
        saved.answered(graph(str(number)), "1", None, [answer])
    assert len(saved._records) <= 256
    assert len(saved._queued) <= 256
