"""What the chat node does when it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from lmbridge.errors import LMBridgeError

from . import _host, fallbacks
from .calls import Call
from .choices import AUTOMATIC, FALLBACK, FREE_FIRST, KEEP_MODEL
from .handover import Use, handover
from .problems import NodeError, remember, sentence
from .requests import make_requests
from .saved import saved_answers
from .unloading import in_background, unload, unload_when_over
from .values import Answer
from .waiting import or_interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmbridge.chat import Request

    from .requests import Widgets
    from .screens import Screen

__all__ = ["answer"]

#: Room for the pictures of one item of a list, where each has a call of its own.
_ITEMS = 4096


async def answer(widgets: Widgets, screen: Screen, graph: Any, metadata: Any) -> list[Answer]:
    """Return one answer for each request, or the one that is kept.

    Args:
        widgets: what the node was given.
        screen: where to show it.
        graph: the prompt that runs.
        metadata: its ``extra_pnginfo``.

    Raises:
        NodeError: it failed, in one sentence.
        BaseException: ComfyUI's own, if the user cancels.
    """
    try:
        kept = Answer.kept(widgets)
        answers = [kept] if kept is not None else await _ask_model(widgets, screen, graph)
    except LMBridgeError as error:
        remember(error)
        raise NodeError(sentence(error)) from None
    if widgets.save_answer and not any(item.error for item in answers):
        own = metadata if isinstance(metadata, dict) else None
        saved_answers.answered(graph, screen.place.node, own, answers)
    return answers


async def _ask_model(widgets: Widgets, screen: Screen, graph: Any) -> list[Answer]:
    handover.begin(screen.place, graph)
    answers: list[Answer] = []
    try:
        requests = make_requests(widgets)
        if widgets.before_run == FREE_FIRST:
            _host.free_memory()
        answers = await _ask_all(widgets, requests, screen)
    finally:
        leaving = handover.end(
            screen.place,
            Use(widgets.connection, widgets.model),
            widgets.after_run,
            _names(widgets, answers),
            answered=bool(answers),
        )
        if leaving and not answers:
            in_background(unload(leaving))
        elif handover.must_watch(screen.place.prompt_id):
            in_background(unload_when_over(screen.place.prompt_id))
    if not leaving:
        return answers
    notes = await or_interrupted(in_background(unload(leaving)), cancel=False)
    return [_with_notes(item, notes) for item in answers]


def _names(widgets: Widgets, answers: Sequence[Answer]) -> set[str]:
    """Return what the server calls the model: what was asked for, else what has answered."""
    if widgets.after_run == KEEP_MODEL:
        return set()
    if widgets.model.strip() not in {"", AUTOMATIC}:
        return {widgets.model.strip()}
    return {item.result.model for item in answers if item.result.model}


async def _ask_all(widgets: Widgets, requests: Sequence[Request], screen: Screen) -> list[Answer]:
    first = screen.place.item if len(requests) == 1 else screen.place.item * _ITEMS
    calls = [
        Call(widgets.connection, request, screen, first + number) for number, request in enumerate(requests)
    ]
    try:
        for call in calls:
            call.start()  # now: the prompt's loop may stand still before a task gets its turn
        return list(await asyncio.gather(*(_answer_of(widgets, call) for call in calls)))
    finally:
        for call in calls:
            call.leave()


async def _answer_of(widgets: Widgets, call: Call) -> Answer:
    try:
        result = await call.result()
    except LMBridgeError as error:
        if widgets.on_error != FALLBACK:
            raise
        remember(error)
        fallbacks.note(call.screen.place.node)
        return Answer.fallback(widgets, sentence(error), call.index)
    return Answer(result, widgets.connection, call.request, call.index)


def _with_notes(item: Answer, notes: Sequence[str]) -> Answer:
    if not notes:
        return item
    result = msgspec.structs.replace(item.result, notes=(*item.result.notes, *notes))
    return Answer(result, item.connection, item.request, item.index, item.error)
