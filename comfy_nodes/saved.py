"""Answers in the metadata of saved pictures, also when ComfyUI did not run the node again.

ComfyUI writes what is in a prompt's ``extra_pnginfo`` into each picture that the prompt saves. A node that
runs puts its answer there. For one whose outputs are still in ComfyUI's cache nothing of ours runs, so its
last answer is put there as soon as a prompt is queued that gives it the same inputs; and if that last answer
is still being written, as soon as it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from .choices import ALWAYS_NEW
from .graphs import chat_nodes, signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .values import Answer

__all__ = ["SavedAnswers", "saved_answers"]

_KEY = "lmbridge"
_KEPT = 256


class SavedAnswers:
    """The last answers of the nodes that save theirs. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: Queued prompts: signature, node, and the metadata that their pictures will get.
        self._queued: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=_KEPT)

    def queued(self, graph: Any, metadata: dict[str, Any]) -> None:
        """A prompt is queued; add what is known of its nodes that save their answers."""
        for node, inputs in chat_nodes(graph):
            if inputs.get("save_answer") is not True or inputs.get("rerun") == ALWAYS_NEW:
                continue
            found = signature(graph, node)
            if found is None:
                continue
            with self._lock:
                self._queued.append((found, node, metadata))
                record = self._records.get(found)
            if record is not None:
                _put(metadata, node, record)

    def answered(
        self, graph: Any, node: str, metadata: dict[str, Any] | None, answers: Sequence[Answer]
    ) -> None:
        """A node has answered; add it to its own prompt, and to those that will find it in the cache."""
        record = {"answers": [_record(answer) for answer in answers]}
        found = signature(graph, node)
        with self._lock:
            waiting = [item for item in self._queued if item[0] == found]
            if found is not None:
                self._records[found] = record
                self._records.move_to_end(found)
                while len(self._records) > _KEPT:
                    self._records.popitem(last=False)
        for _, name, other in waiting:
            _put(other, name, record)
        if metadata is not None:
            _put(metadata, node, record)


def _put(metadata: dict[str, Any], node: str, record: dict[str, Any]) -> None:
    ours = metadata.get(_KEY)
    if not isinstance(ours, dict):
        # A new one, not a change: ComfyUI may be writing the old one at this moment.
        ours = {}
    metadata[_KEY] = {**ours, node: record}


def _record(answer: Answer) -> dict[str, Any]:
    """Return what is saved: never thinking, and keys are in none of it."""
    return {"text": answer.result.text, "settings": answer.settings, **answer.stats}


saved_answers = SavedAnswers()
