"""Who may use `/_emulator`: programs on this machine, and no page of a browser that came from elsewhere.

A page of another site can make a browser send requests to this machine, and a name that is bound to a new
address (DNS rebinding) makes them look like its own. So the connection has to come from this machine, `Host`
has to name it, and what browsers say about a request's origin has to be this server itself.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from aiohttp import web

MAX_BODY = 1024 * 1024
"""Largest body of a request, in bytes."""


class AdminError(Exception):
    """A request that is refused.

    Args:
        message: what is wrong.
        kind: `error.type` of the answer.
        status: of the answer.
        hint: what to do about it.
        name: of the switch, gate, ... that is meant.
    """

    def __init__(
        self, message: str, *, kind: str, status: int = 400, hint: str = "", name: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.hint = hint
        self.name = name

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        error = {"type": self.kind, "message": str(self), "name": self.name, "hint": self.hint or None}
        return {"error": {key: value for key, value in error.items() if value is not None}}


def check_caller(request: web.Request) -> None:
    """Let only programs on this machine pass.

    Raises:
        AdminError: 403.
    """
    if not _is_loopback(request.remote or ""):
        raise _forbidden("this interface is for programs on the emulator's own machine")
    if not _names_loopback(request.headers.get("Host", "")):
        raise _forbidden("the Host of the request does not name this machine", "use localhost or 127.0.0.1")
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{request.headers['Host']}".lower():
        raise _forbidden("a page of another origin may not use this interface")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise _forbidden("a page of another site may not use this interface")


async def body_of(request: web.Request, *allowed: str) -> dict[str, Any]:
    """Return the JSON object of a request that changes something.

    Args:
        request: it has to say that its body is JSON, which no form of a page can.
        allowed: the keys it may have; none: any.

    Raises:
        AdminError: no JSON, no object, or an unknown key.
    """
    if request.content_type != "application/json":
        raise AdminError(
            "the body has to be JSON",
            kind="unsupported_media_type",
            status=415,
            hint="send Content-Type: application/json",
        )
    try:
        body = msgspec.json.decode(await _limited(request))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdminError(f"the body is no JSON: {error}", kind="invalid_json") from None
    if not isinstance(body, dict):
        raise AdminError("the body has to be a JSON object", kind="invalid_body")
    for key in body:
        if allowed and key not in allowed:
            raise AdminError(
                f"{key!r} is not known here",
                kind="unknown_key",
                name=key,
                hint=f"known: {', '.join(allowed)}",
            )
    return body


async def _limited(request: web.Request) -> bytes:
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise AdminError("the body is too large", kind="too_large", status=413)
    return bytes(raw) or b"{}"


def _forbidden(message: str, hint: str = "") -> AdminError:
    return AdminError(message, kind="forbidden", status=403, hint=hint)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)
