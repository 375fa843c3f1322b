"""What can go wrong on a connection, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

__all__ = ["Action", "Fault", "Place"]

#: Where a fault happens: ``"accept"``: the request is never read; ``"request"``: it is read, nothing is
#: answered; ``"head"``: status and headers are sent, no body; a number: after so many bytes of the body;
#: ``bytes`` or a pattern of bytes: right after these bytes of the body. A WebSocket's frames are its body.
Place: TypeAlias = Literal["accept", "request", "head"] | int | bytes | re.Pattern[bytes]
Action: TypeAlias = Literal["hang", "drop", "end", "garbage", "flood"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; made by the class methods.

    Attributes:
        action: what happens.
        at: where it happens.
        data: bytes that are sent, for ``garbage`` and ``flood``.
        reset: a dropped connection is reset (RST) instead of closed (FIN).
        route: pattern of the requests it concerns, e.g. ``"POST *"``; the method, a space, the path.
    """

    action: Action
    at: Place = "head"
    data: bytes = b""
    reset: bool = False
    route: str = "*"

    @classmethod
    def hang(cls, at: Place = "request", *, route: str = "*") -> Fault:
        """Say nothing more, until :meth:`FaultServer.release` is called or the client leaves."""
        return cls("hang", at, route=route)

    @classmethod
    def drop(cls, at: Place = "request", *, reset: bool = False, route: str = "*") -> Fault:
        """Close the connection in the middle of whatever it is."""
        return cls("drop", at, reset=reset, route=route)

    @classmethod
    def end(cls, at: Place = "head", *, route: str = "*") -> Fault:
        """Leave out the rest of the body and end it as if it were whole: well-formed, and too short."""
        return cls("end", at, route=route)

    @classmethod
    def garbage(cls, data: bytes, at: Place = "head", *, route: str = "*") -> Fault:
        """Send ``data`` in the middle of the body, once, and go on."""
        return cls("garbage", at, data, route=route)

    @classmethod
    def flood(cls, data: bytes, at: Place = "head", *, route: str = "*") -> Fault:
        """Send ``data`` again and again until the client leaves: a line without end, comments without end."""
        return cls("flood", at, data, route=route)

    def concerns(self, route: str) -> bool:
        """Whether it happens to requests of ``route``, e.g. ``"POST /chat"``."""
        return fnmatchcase(route, self.route)


class Trigger:
    """Finds the place of a fault in a body that passes by in blocks.

    Args:
        fault: what is to happen.
        passed: bytes of the body that have passed already.
    """

    def __init__(self, fault: Fault, passed: int = 0) -> None:
        self.fault = fault
        self._passed = passed
        self._seen = b""
        self._before = passed
        self._done = False
        at = fault.at
        self._pattern = re.compile(re.escape(at)) if isinstance(at, bytes) else at

    def find(self, block: bytes) -> int | None:
        """Return after how many bytes of ``block`` the fault happens, or ``None``; it happens once."""
        where = None if self._done else self._where(block)
        self._passed += len(block)
        self._done = where is not None or self._done
        return where

    def _where(self, block: bytes) -> int | None:
        at = self._pattern
        if isinstance(at, str):
            return 0
        if isinstance(at, int):
            return max(0, at - self._passed) if at <= self._passed + len(block) else None
        self._seen += block
        found = at.search(self._seen)
        return None if found is None else max(0, self._before + found.end() - self._passed)
