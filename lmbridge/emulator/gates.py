"""Gates: how a test holds the emulator in a phase, without sleeping.

A phase is passed in numbered steps (tokens, load steps, ...). `hold("answering", after=5)` lets each
generation pass five tokens of its answer and stops it before the sixth, until the gate is released::

    gate = emulator.gates.hold("answering", after=5)
    ...                                   # start a request
    await gate.reached()                  # now five tokens are out and the emulator stands still
    ...                                   # cancel, look around
    gate.release()
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Literal, get_args

from lmbridge.emulator.aio import Pulse

Phase = Literal["queued", "loading", "prompt", "reasoning", "answering", "tool", "downloading", "embedding"]
"""Where work can be held. `queued`: before a slot of the instance is taken; `answering`: tool calls too."""

PHASES: tuple[str, ...] = get_args(Phase)


class Gate:
    """One held phase."""

    def __init__(self, phase: Phase, after: int, model: str | None, number: int) -> None:
        self.number = number
        """Its position among all gates of the emulator, from 1."""
        self.phase = phase
        self.after = after
        self.model = model
        self.waiting = 0
        """How much work stands at the gate now."""
        self.arrived = 0
        """How much work ever stood at it."""
        self._open = asyncio.Event()
        self._changed = Pulse()

    @property
    def is_open(self) -> bool:
        """Whether the gate has been released."""
        return self._open.is_set()

    def release(self) -> None:
        """Let everything pass, now and later."""
        self._open.set()

    async def reached(self, count: int = 1, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - a test's bound
        """Wait until so much work has come to the gate.

        Raises:
            TimeoutError: it did not come in time.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.arrived < count:
                    await self._changed.wait()
        except TimeoutError:
            message = f"{self.arrived} of {count} came to the gate {self.phase!r} within {timeout:g} s"
            raise TimeoutError(message) from None

    async def passing(self) -> None:
        """Stand at the gate until it is open."""
        self.arrived += 1
        self.waiting += 1
        self._changed.send()
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


class Gates:
    """All gates of one emulator. To be used from its loop."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._numbers = itertools.count(1)

    def hold(self, phase: Phase, *, after: int = 0, model: str | None = None) -> Gate:
        """Close a phase.

        Args:
            phase: where to hold.
            after: how many steps each piece of work may pass first.
            model: hold only work of this model key.

        Raises:
            ValueError: there is no such phase.
        """
        if phase not in PHASES:
            raise ValueError(f"no phase {phase!r}: there are {', '.join(PHASES)}")
        gate = Gate(phase, after, model, next(self._numbers))
        self._gates.append(gate)
        return gate

    def closed(self) -> list[Gate]:
        """Return the gates that have not been released."""
        return [gate for gate in self._gates if not gate.is_open]

    def release(self, phase: Phase | None = None) -> None:
        """Open the gates of one phase, or all."""
        for gate in self._gates:
            if phase in (None, gate.phase):
                gate.release()
        self._gates = self.closed()

    async def checkpoint(self, phase: Phase, step: int, model: str) -> None:
        """Stand at every closed gate of this step."""
        for gate in tuple(self._gates):
            applies = gate.phase == phase and step >= gate.after and gate.model in (None, model)
            if applies and not gate.is_open:
                await gate.passing()
