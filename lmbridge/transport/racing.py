"""The TCP connection to a host of several addresses: the first that answers, of RFC 8305.

asyncio has the same (``happy_eyeballs_delay``); but a call that is cancelled in the moment in which an
address answers leaves its socket open there, and uvloop does not know the argument.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any

__all__ = ["connected_socket"]

#: How long an address is tried alone. On Windows a port that nobody listens on refuses only after 2 s, and
#: there ``localhost`` is ``::1`` first.
_ALONE_SECONDS = 0.25
#: What a machine without IPv6 says of such an address; of several errors the others say more.
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_Address = tuple[int, int, int, Any]  # family, type, protocol, address


async def connected_socket(host: str, port: int, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Return a socket that is connected to ``host``, which the caller has to close.

    Raises:
        OSError: the host has no address, or none of them answers.
    """
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await _race(_alternating([(*info[:3], info[4]) for info in found]), loop)


def _alternating(addresses: list[_Address]) -> list[_Address]:
    """Return the addresses with their families in turn, the first one's first."""
    families: dict[int, list[_Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in turns if address is not None]


async def _race(addresses: list[_Address], loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Return the first socket that is connected; a further address joins when one failed or is slow."""
    errors: list[OSError] = []
    waiting = iter(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    left = len(addresses)
    try:
        while left or running:
            if left:
                left -= 1
                running.add(loop.create_task(_attempt(next(waiting), loop)))
            seconds = _ALONE_SECONDS if left else None
            done, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    sock = task.result()
                except OSError as exc:
                    running.discard(task)
                    errors.append(exc)
                else:
                    running.discard(task)
                    return sock
        raise _telling(errors)
    finally:
        errors.clear()  # each holds this frame
        await _end(running)


async def _attempt(address: _Address, loop: asyncio.AbstractEventLoop) -> socket.socket:
    family, kind, protocol, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


async def _end(running: set[asyncio.Task[socket.socket]]) -> None:
    """Give up what still tries, and close what has won too late."""
    for task in running:
        task.cancel()
        task.add_done_callback(_close)
    if running:
        await asyncio.wait(running)


def _close(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled():
        with suppress(OSError):
            task.result().close()


def _telling(errors: list[OSError]) -> OSError:
    """Return the error that says most."""
    if not errors:
        return OSError("the host has no address")
    return next((error for error in errors if error.errno not in _NO_WAY), errors[0])
