"""Reading a prompt's graph, whatever is in it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Pack = Callable[[str], ModuleType]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=15,
)
SHAPED = st.dictionaries(
    st.sampled_from("123"),
    st.fixed_dictionaries(
        {"class_type": st.sampled_from(["LMBridge_Chat", "LMStudio_Unified_Chat", "Other"])},
        optional={"inputs": st.dictionaries(st.text(max_size=8), JSON, max_size=3)},
    ),
)


def chat(**inputs: Any) -> dict[str, Any]:
    return {"class_type": "LMBridge_Chat", "inputs": inputs}


def test_the_same_inputs_have_the_same_signature(pack: Pack) -> None:
    signature = pack("graphs").signature
    one = {"1": chat(prompt=["2", 0], seed=1), "2": {"class_type": "Texts", "inputs": {"lines": "a"}}}
    other = {"7": chat(seed=1.0, prompt=["9", 0]), "9": {"class_type": "Texts", "inputs": {"lines": "a"}}}
    assert signature(one, "1") == signature(other, "7") is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"1": chat(prompt=["2", 0], seed=2), "2": {"class_type": "Texts", "inputs": {"lines": "a"}}},
        {"1": chat(prompt=["2", 1], seed=1), "2": {"class_type": "Texts", "inputs": {"lines": "a"}}},
        {"1": chat(prompt=["2", 0], seed=1), "2": {"class_type": "Texts", "inputs": {"lines": "b"}}},
        {"1": chat(prompt=["2", 0], seed=1), "2": {"class_type": "Other", "inputs": {"lines": "a"}}},
        {"1": chat(prompt=["2", 0]), "2": {"class_type": "Texts", "inputs": {"lines": "a"}}},
        {"1": chat(prompt="2", seed=1)},
    ],
)
def test_any_change_changes_the_signature(pack: Pack, changed: Any) -> None:
    graph = {"1": chat(prompt=["2", 0], seed=1), "2": {"class_type": "Texts", "inputs": {"lines": "a"}}}
    assert pack("graphs").signature(graph, "1") != pack("graphs").signature(changed, "1")


def test_what_cannot_be_told_has_none(pack: Pack) -> None:
    signature = pack("graphs").signature
    cycle = {"1": chat(prompt=["2", 0]), "2": chat(prompt=["1", 0])}
    assert signature(cycle, "1") is None
    assert signature({"1": chat(prompt=["5", 0])}, "1") is None
    assert signature({}, "1") is None
    deep = {str(n): chat(prompt=[str(n + 1), 0]) for n in range(100_000)}
    assert signature(deep, "0") is None


def test_a_diamond_is_no_cycle_and_takes_no_time(pack: Pack) -> None:
    graph: dict[str, Any] = {"0": chat(prompt="x")}
    for n in range(1, 200):
        graph[str(n)] = chat(prompt=[str(n - 1), 0], system_prompt=[str(n - 1), 0])
    assert pack("graphs").signature(graph, "199")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    body=st.dictionaries(
        st.sampled_from(["prompt", "extra_data", "partial_execution_targets"]), JSON | SHAPED
    )
)
def test_nothing_that_is_queued_makes_us_fail(pack: Pack, host: Any, body: Any) -> None:
    pack("service").service.addresses = dict  # no settings are read here
    assert pack("queueing").on_prompt(body) is body
