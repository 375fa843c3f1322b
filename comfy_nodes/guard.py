"""Who may use our routes: the page that this ComfyUI itself has served, and nobody else.

ComfyUI has no login, and lets a page through whose own name was made to lead to this machine (DNS rebinding).
A request must come from a page of the same origin, and be addressed to an IP address, to ``localhost``, to
this machine's name or to a name in ``LMBRIDGE_COMFYUI_HOSTS``. What changes something also needs a token that
only such a page can have got.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["TOKEN", "TOKEN_HEADER", "refusal", "refusal_of_change"]

TOKEN_HEADER = "X-LMBridge-Token"  # noqa: S105 - the header's name
#: New for each start.
TOKEN = secrets.token_urlsafe(32)

_OWN_PAGE = frozenset({"same-origin", "none"})


def refusal(headers: Mapping[str, str], hosts: Iterable[str] = ()) -> str | None:
    """Return why a request is refused, in one sentence; ``None``: it is not.

    Args:
        headers: of the request; a mapping that ignores case.
        hosts: further names of this machine.
    """
    host = headers.get("Host", "")
    if not _is_ours(_name(host), hosts):
        return "this address is not known; list its host name in LMBRIDGE_COMFYUI_HOSTS"
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return None if site in _OWN_PAGE else "only ComfyUI's own page may ask this"
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return "only ComfyUI's own page may ask this"
    return None


def refusal_of_change(headers: Mapping[str, str], hosts: Iterable[str] = ()) -> str | None:
    """Return why a request that changes something is refused; ``None``: it is not."""
    reason = refusal(headers, hosts)
    if reason is not None:
        return reason
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return "the request must be JSON"
    given = headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape")
    return (
        None if hmac.compare_digest(given, TOKEN.encode()) else "the token is missing or of an earlier start"
    )


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _is_ours(name: str, hosts: Iterable[str]) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return bool(name) and name in {*_own_names(), *(host.lower() for host in hosts)}
    return True


def _own_names() -> tuple[str, ...]:
    machine = socket.gethostname().lower()
    short = machine.partition(".")[0]
    return "localhost", machine, short, f"{short}.local"
