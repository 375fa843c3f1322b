"""Which models leave when, told from the prompt's graph."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Pack = Callable[[str], ModuleType]

OURS = "unload if we loaded it"
KEEP = "keep model"


def node(model: Any = "m", connection: str = "c", **inputs: Any) -> dict[str, Any]:
    return {"class_type": "LMBridge_Chat", "inputs": {"connection": connection, "model": model, **inputs}}


@pytest.fixture
def kit(pack: Pack) -> Any:
    """A fresh bookkeeper, and short ways to tell it what happens."""
    handover, host = pack("handover"), pack("_host")

    class Kit:
        Use = handover.Use

        def __init__(self) -> None:
            self.book = handover.HandOver()

        def begin(self, graph: Any, name: str, prompt: str = "p", item: int = 0) -> None:
            self.book.begin(host.Place(prompt, name, item), graph)

        def end(
            self,
            name: str,
            after_run: str = OURS,
            *,
            model: str = "m",
            prompt: str = "p",
            answered: bool = True,
        ) -> dict[str, str]:
            use = handover.Use("c", model)
            left = self.book.end(host.Place(prompt, name, 0), use, after_run, {model}, answered=answered)
            return {one.model: mode for one, (mode, _) in left.items()}

        def run(self, graph: Any, name: str, prompt: str = "p", **options: Any) -> dict[str, str]:
            self.begin(graph, name, prompt)
            return self.end(name, prompt=prompt, **options)

    return Kit()


def test_the_only_node_lets_its_model_go(kit: Any) -> None:
    assert kit.run({"1": node()}, "1") == {"m": OURS}


def test_a_model_that_is_kept_stays(kit: Any) -> None:
    assert kit.run({"1": node()}, "1", after_run=KEEP) == {}
    assert not kit.book.must_watch("p")


def test_the_last_of_several_nodes_lets_it_go(kit: Any) -> None:
    graph = {"1": node(), "2": node(seed=2), "3": node("other")}
    assert kit.run(graph, "1") == {}
    assert kit.book.must_watch("p")
    assert not kit.book.must_watch("p")  # one watcher is enough
    assert kit.run(graph, "2", after_run=KEEP) == {"m": OURS}  # the first one wanted it


def test_the_stronger_wish_counts(kit: Any) -> None:
    graph = {"1": node(), "2": node(seed=2)}
    kit.run(graph, "1", after_run="unload")
    assert kit.run(graph, "2", after_run=OURS) == {"m": "unload"}


@pytest.mark.parametrize("model", ["automatic", ["9", 0]])
def test_a_node_that_may_use_it_is_waited_for(kit: Any, model: Any) -> None:
    graph = {"1": node(), "2": node(model)}
    assert kit.run(graph, "1") == {}


def test_a_node_with_a_kept_answer_is_not_waited_for(kit: Any) -> None:
    kept = node(rerun="keep this answer", kept_answer='{"text": "x"}')
    assert kit.run({"1": node(), "2": kept}, "1") == {"m": OURS}
    assert kit.run({"1": node(), "2": node(rerun="keep this answer")}, "1", prompt="q") == {}


def test_another_connection_is_another_model(kit: Any) -> None:
    assert kit.run({"1": node(), "2": node(connection="d")}, "1") == {"m": OURS}


def test_every_item_of_a_list_has_to_end(kit: Any) -> None:
    graph = {"1": node()}
    kit.begin(graph, "1", item=0)
    kit.begin(graph, "1", item=1)
    assert kit.end("1") == {}
    assert kit.end("1") == {"m": OURS}


def test_a_node_with_the_inputs_of_its_last_run_is_not_waited_for(kit: Any) -> None:
    graph = {"1": node(prompt="a"), "2": node(prompt="b")}
    kit.run(graph, "1")
    kit.run(graph, "2")
    changed = {"1": node(prompt="changed"), "2": node(prompt="b")}
    assert kit.run(changed, "1", prompt="q") == {"m": OURS}


@pytest.mark.parametrize(
    "second",
    [
        node(prompt="other"),
        node(prompt="b", rerun="always new"),
        node(prompt=["3", 0]),
    ],
)
def test_a_node_whose_inputs_have_changed_is_waited_for(kit: Any, second: Any) -> None:
    texts = {"class_type": "Texts", "inputs": {"lines": "1"}}
    graph = {"1": node(prompt="a"), "2": {**second, "inputs": {**second["inputs"]}}, "3": texts}
    before = {**graph, "2": node(prompt="b"), "3": texts}
    kit.run(before, "1")
    kit.run(before, "2")
    graph["1"] = node(prompt="changed")
    assert kit.run(graph, "1", prompt="q") == {}


def test_a_node_behind_one_that_is_always_new_is_waited_for(kit: Any) -> None:
    graph = {"1": node(prompt="a", rerun="always new"), "2": node(prompt=["1", 0]), "3": node(prompt="c")}
    for name in ("1", "2", "3"):
        kit.run(graph, name)
    kit.run(graph, "3", prompt="q")
    assert kit.run(graph, "1", prompt="q") == {}


def test_a_node_that_failed_last_time_is_waited_for(kit: Any) -> None:
    graph = {"1": node(prompt="a"), "2": node(prompt="b")}
    kit.run(graph, "1")
    kit.run(graph, "2", answered=False)
    assert kit.run({**graph, "1": node(prompt="new")}, "1", prompt="q") == {}


def test_a_failure_lets_everything_of_the_prompt_go(kit: Any) -> None:
    graph = {"1": node(), "2": node("other", prompt=["1", 0]), "3": node(seed=3)}
    kit.run(graph, "1")
    assert kit.run(graph, "2", model="other", answered=False) == {"m": OURS, "other": OURS}
    assert kit.book.left_over("p") == {}


def test_what_was_waited_for_in_vain_leaves_at_the_end(kit: Any) -> None:
    graph = {"1": node(), "2": node(seed=2)}
    kit.run(graph, "1")
    assert [use.model for use in kit.book.left_over("p")] == ["m"]
    assert kit.book.left_over("p") == {}


def test_nodes_that_are_not_to_run_are_not_waited_for(kit: Any) -> None:
    graph = {"1": node(), "2": node(seed=2), "3": node(prompt=["1", 0]), "4": node("other")}
    kit.book.queued(graph, ["4", "3"])
    assert kit.run(graph, "1") == {}  # 3 comes after it
    assert kit.run(graph, "3") == {"m": OURS}
    # The same graph as another object is another prompt.
    assert kit.run(dict(graph), "1", prompt="q") == {}


@pytest.mark.parametrize("graph", [None, [], {}, {"1": None}, {"1": {"class_type": "LMBridge_Chat"}}])
def test_a_graph_of_no_known_form_is_no_failure(kit: Any, graph: Any) -> None:
    assert kit.run(graph, "1") in ({"m": OURS}, {})


def test_memory_is_bounded(kit: Any) -> None:
    for number in range(2000):
        kit.run({str(number): node(prompt=number)}, str(number), prompt=str(number))
        kit.book.queued({}, [])
    assert all(len(table) <= 512 for table in vars(kit.book).values() if hasattr(table, "popitem"))
