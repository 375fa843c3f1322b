"""How a behaviour of the emulator is known, said beside the code that has it.

`known` marks a handler, a remote call, a channel or an error; modules whose behaviour hangs on no single
function have a tuple of `Fact`. `lmbridge.emulator.behaviours` makes one table of them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Evidence

F = TypeVar("F", bound=Callable[..., Any])

WITNESSES = "lmstudio 1.5.0 and 1.6.0b1, @lmstudio/sdk 1.5.0 and 2.0.0 (tests/witnesses)"
"""The clients of LM Studio that hold whole conversations with the emulator in its tests."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One behaviour.

    Attributes:
        says: what the emulator does, in a sentence.
        evidence: how that is known; see `lmbridge.emulator.settings`.
        source: where it is known from: a public document, an issue, a client.
        subject: what does it, where no function says that.
    """

    says: str
    evidence: Evidence
    source: str
    subject: str = ""


_facts: dict[Callable[..., Any], tuple[Fact, ...]] = {}


def known(evidence: Evidence, source: str, says: str = "") -> Callable[[F], F]:
    """Say how the behaviour of a function is known; several marks say several things, in their order.

    Args:
        evidence: how it is known.
        source: where it is known from.
        says: what the function does; by default the first sentence of its docstring.
    """

    def mark(function: F) -> F:
        text = says or " ".join((function.__doc__ or "").partition("\n\n")[0].split())
        _facts[function] = (Fact(text, evidence, source), *_facts.get(function, ()))
        return function

    return mark


def facts_of(function: Callable[..., Any]) -> tuple[Fact, ...]:
    """Return what is known of a function, in the order of its marks."""
    return _facts.get(function, ())
