"""Giving the memory back: models leave the server after the last node of the prompt that uses them.

The prompt's graph tells which nodes may still use a model. ComfyUI does not tell which of them it will not
run, having their outputs in its cache: a node whose inputs are those of its last run is taken for such. If
that was wrong, the model is loaded once more. If a node was waited for in vain, the model leaves when the
prompt ends.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .choices import ALWAYS_NEW, AUTOMATIC, KEEP_ANSWER, KEEP_MODEL, UNLOAD
from .graphs import chat_nodes, inputs_of, link_of, signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._host import Place

__all__ = ["HandOver", "Leaving", "Use", "handover"]

_KEPT = 512


class Use(NamedTuple):
    """A model that a node uses.

    Attributes:
        connection: name of the connection.
        model: as the widget says, which may be ``automatic``.
    """

    connection: str
    model: str

    def may_be(self, other: Use) -> bool:
        """Whether both may be the same model."""
        unsure = AUTOMATIC in {self.model, other.model}
        return self.connection == other.connection and (unsure or self.model == other.model)


#: What has to leave: how (a text of ``after_run``), and the names that the server knows it by.
Leaving: TypeAlias = dict[Use, tuple[str, set[str]]]


class _Prompt:
    """What is known of one execution."""

    def __init__(self, graph: Any, targets: frozenset[str] | None) -> None:
        self.graph = graph
        self.targets = targets
        self.running: dict[str, int] = {}
        self.done: set[str] = set()
        self.leaving: Leaving = {}
        self.watched = False


class HandOver:
    """Knows which nodes of which prompt have used which model. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prompts: OrderedDict[str, _Prompt] = OrderedDict()
        self._signatures: OrderedDict[str, str] = OrderedDict()
        self._targets: OrderedDict[int, tuple[Any, frozenset[str]]] = OrderedDict()

    # -- what nodes report -----------------------------------------------------------------------------

    def queued(self, graph: Any, targets: Iterable[Any]) -> None:
        """A prompt is queued of which only these output nodes are to run."""
        with self._lock:
            self._targets[id(graph)] = graph, frozenset(map(str, targets))
            _bound(self._targets)

    def begin(self, place: Place, graph: Any) -> None:
        """A node begins; once for each item of a list."""
        with self._lock:
            prompt = self._prompt(place.prompt_id, graph)
            prompt.running[place.node] = prompt.running.get(place.node, 0) + 1

    def end(self, place: Place, use: Use, after_run: str, names: Iterable[str], *, answered: bool) -> Leaving:
        """A node ends; return what has to leave now.

        Args:
            place: the node.
            use: what it used.
            after_run: its widget.
            names: what the server calls the model.
            answered: it has answered; else the prompt is over.
        """
        with self._lock:
            prompt = self._prompt(place.prompt_id, None)
            prompt.running[place.node] = prompt.running.get(place.node, 1) - 1
            if prompt.running[place.node] <= 0:
                prompt.done.add(place.node)
                self._note(place.node, prompt.graph, answered=answered)
            if after_run != KEEP_MODEL:
                mode, known = prompt.leaving.get(use, (after_run, set()))
                prompt.leaving[use] = UNLOAD if UNLOAD in {mode, after_run} else mode, known | set(names)
            if not answered:
                leaving, prompt.leaving = prompt.leaving, {}
                return leaving
            free = [one for one in prompt.leaving if not self._is_awaited(prompt, one)]
            return {one: prompt.leaving.pop(one) for one in free}

    def left_over(self, prompt_id: str) -> Leaving:
        """Return what has to leave when the prompt is over; each once."""
        with self._lock:
            prompt = self._prompts.pop(prompt_id, None)
            return prompt.leaving if prompt else {}

    def must_watch(self, prompt_id: str) -> bool:
        """Whether something waits for the end of the prompt, and nobody watches for it yet."""
        with self._lock:
            prompt = self._prompts.get(prompt_id)
            if prompt is None or prompt.watched or not prompt.leaving:
                return False
            prompt.watched = True
            return True

    # -- inside ----------------------------------------------------------------------------------------

    def _prompt(self, prompt_id: str, graph: Any) -> _Prompt:
        found = self._prompts.get(prompt_id)
        if found is None:
            known, targets = self._targets.pop(id(graph), (None, None))
            found = self._prompts[prompt_id] = _Prompt(graph, targets if known is graph else None)
            _bound(self._prompts)
        return found

    def _note(self, node: str, graph: Any, *, answered: bool) -> None:
        """Remember with which inputs a node has answered."""
        found = signature(graph, node) if answered else None
        if found is None:
            self._signatures.pop(node, None)
        else:
            self._signatures[node] = found
            self._signatures.move_to_end(node)
            _bound(self._signatures)

    def _is_awaited(self, prompt: _Prompt, use: Use) -> bool:
        return any(
            node not in prompt.done and _use(inputs).may_be(use) and self._is_expected(prompt, node)
            for node, inputs in chat_nodes(prompt.graph)
        )

    def _is_expected(self, prompt: _Prompt, node: str) -> bool:
        if prompt.running.get(node):
            return True
        if prompt.targets is not None and not any(
            node in _ancestors(prompt.graph, target) for target in prompt.targets
        ):
            return False
        if _has_kept_answer(inputs_of(prompt.graph, node)):
            return False
        if any(_is_always_new(prompt.graph, name) for name in _ancestors(prompt.graph, node)):
            return True
        return signature(prompt.graph, node) != self._signatures.get(node, "")


def _use(inputs: Mapping[str, Any]) -> Use:
    connection, model = inputs.get("connection"), inputs.get("model")
    return Use(str(connection), model if isinstance(model, str) else AUTOMATIC)


def _has_kept_answer(inputs: Mapping[str, Any]) -> bool:
    return inputs.get("rerun") == KEEP_ANSWER and bool(str(inputs.get("kept_answer") or "").strip())


def _is_always_new(graph: Any, node: str) -> bool:
    return inputs_of(graph, node).get("rerun") == ALWAYS_NEW


def _ancestors(graph: Any, node: str) -> set[str]:
    """Return the node and everything that it depends on."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            links = (link_of(value) for value in inputs_of(graph, name).values())
            waiting += [link[0] for link in links if link is not None]
    return found


def _bound(entries: OrderedDict[Any, Any]) -> None:
    while len(entries) > _KEPT:
        entries.popitem(last=False)


handover = HandOver()
