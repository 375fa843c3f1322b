"""What is odd about an answer that is no error: sentences for :attr:`lmbridge.Finish.notes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.catalog import Model
    from lmbridge.chat import Request
    from lmbridge.events import Finish, Usage

__all__ = ["oddities"]


def oddities(
    finish: Finish, request: Request, model: Model | None, usage: Usage | None, *, only_thinking: bool
) -> Iterator[str]:
    """Yield what a careful reader should know of an answer.

    Args:
        finish: its end, as the provider tells it.
        request: as the provider got it.
        model: what the server says of the model that was asked for.
        usage: the tokens, if they are known.
        only_thinking: thinking has come, and nothing else.
    """
    if only_thinking:
        yield from _without_answer(finish, request)
    context = _context_length(finish, model)
    if usage is not None and context is not None:
        yield from _of_the_context(finish, usage, context)
    wanted, got = request.model, finish.model
    if wanted and got and wanted != got and not _is_same_model(wanted, got, model):
        yield f"{got!r} answered instead of {wanted!r}"


def _without_answer(finish: Finish, request: Request) -> Iterator[str]:
    if finish.reason == "stop":
        yield "the model gave no answer, only thinking: ask again, or lower reasoning"
    elif finish.reason == "length" and request.options.max_tokens is None:
        yield "thinking used up the room before the answer began: lower reasoning, or load a larger context"
    elif finish.reason == "length":
        yield "thinking used up max_tokens before the answer began: raise max_tokens or lower reasoning"


def _context_length(finish: Finish, model: Model | None) -> int | None:
    """Return the tokens that the copy which answered is loaded with, if the server told."""
    copies = (model.loaded if model else None) or ()
    copy = next((copy for copy in copies if copy.id == finish.model), copies[0] if len(copies) == 1 else None)
    return copy.context_length if copy else None


def _of_the_context(finish: Finish, usage: Usage, context: int) -> Iterator[str]:
    """Servers leave out the middle of what does not fit, and say nothing (lmstudio-bug-tracker#2322)."""
    if (usage.prompt_tokens or 0) + (usage.completion_tokens or 0) < context:
        return
    if finish.reason == "length":
        yield "the answer ends where the context was full"
    else:
        yield f"prompt and answer outgrew the context of {context} tokens: a part may have been left out"


def _is_same_model(wanted: str, got: str, model: Model | None) -> bool:
    if model is not None and model.answers_to(wanted) and model.answers_to(got):
        return True
    # Servers answer to "gpt-4o" as "gpt-4o-2024-08-06", and to "key" as its copy "key:2".
    return got.casefold().startswith(wanted.casefold()) or wanted.casefold().startswith(got.casefold())
