"""The exception tree.

::

    LMBridgeError
    ├── ConfigurationError       a setting, an address or an argument is wrong: nothing was sent
    │   ├── UnknownConnection    no connection of that name (near matches named)
    │   └── InvalidRequest       the request contradicts itself or is out of range
    ├── PluginError              a plugin cannot be loaded, or broke the hook contract
    │   └── UnknownProvider      no provider plugin of that name is installed and enabled
    ├── UnsupportedFeature       provider, model or server cannot honour a part of the request
    ├── ImageRejected            an image cannot be read or is refused by the server
    ├── ServerUnreachable        refused, unresolvable, dropped before the answer began
    ├── AuthenticationFailed     the server wants another key, or the key lacks a permission
    ├── ModelNotFound            the server does not have the model (near matches named)
    ├── ModelLoadFailed          the server has it and could not load it
    ├── ContextOverflow          the prompt does not fit the loaded context
    ├── RateLimited              too many requests (429)
    ├── ServerError              any other refusal or failure that the server reports
    ├── ProtocolError            the answer is not what the protocol promises, or ends without its end mark
    ├── TimedOut                 one of the four clocks ran out (also a ``TimeoutError``)
    └── Cancelled                the call was stopped by somebody other than the awaiting task

Every error carries ``connection``, ``provider``, ``status``, ``retryable``, ``retry_after`` and ``hint``.
Texts pass through :func:`redact`, so no secret that the bridge knows of appears in ``str`` or ``repr``.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = [
    "AuthenticationFailed",
    "Cancelled",
    "ConfigurationError",
    "ContextOverflow",
    "ImageRejected",
    "InvalidRequest",
    "LMBridgeError",
    "ModelLoadFailed",
    "ModelNotFound",
    "PluginError",
    "ProtocolError",
    "RateLimited",
    "ServerError",
    "ServerUnreachable",
    "TimedOut",
    "UnknownConnection",
    "UnknownProvider",
    "UnsupportedFeature",
    "near_matches",
    "redact",
]

_MASK = "***"
_TOKEN = re.compile(r"\b(sk-[A-Za-z0-9_-]{4,}(?::[A-Za-z0-9]+)?|(?<=Bearer )[^\s'\"]+)")
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without secrets.

    ``secrets`` are replaced wherever they occur; texts that look like keys (``sk-…``, ``Bearer …``) and
    the user part of URLs are replaced in any case. Idempotent.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, _MASK)
        # An error masks what looks like a key before it learns the secrets: of one that looks like a key only
        # at its begin, the rest is left.
        for before in ("", "Bearer "):
            rest = _masked(before + secret).removeprefix(before)
            if rest not in {secret, _MASK}:
                text = text.replace(rest, _MASK)
    return _masked(text)


def _masked(text: str) -> str:
    return _USERINFO.sub(f"{_MASK}@", _TOKEN.sub(_MASK, text))


def near_matches(name: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return up to ``limit`` of the ``known`` names that a person who typed ``name`` may have meant."""
    by_fold = {item.casefold(): item for item in known}
    wanted = name.casefold()
    close = get_close_matches(wanted, by_fold, n=limit, cutoff=0.5)
    parts = [item for item in by_fold if len(wanted) > 2 and (wanted in item or item in wanted)]
    return tuple(by_fold[item] for item in dict.fromkeys([*close, *parts]))[:limit]


class LMBridgeError(Exception):
    """Base of everything that lmbridge raises on purpose.

    Attributes:
        message: what happened, in one sentence, without secrets.
        hint: what to do about it; empty if nothing sensible can be said.
        connection: name of the connection, once known.
        provider: name of the provider plugin, once known.
        status: HTTP status or ``None``.
        retryable: whether the same request may succeed later.
        retry_after: seconds that the server asks to wait, or ``None``.
    """

    #: Used where the raiser gives no hint of its own.
    default_hint = ""
    default_retryable = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        connection: str | None = None,
        provider: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = redact(message)
        self.hint = redact(self.default_hint if hint is None else hint)
        self.connection = connection
        self.provider = provider
        self.status = status
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        super().__init__(self.message)

    def __str__(self) -> str:
        where = f"{self.connection}: " if self.connection else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def __repr__(self) -> str:
        fields = {
            "hint": self.hint or None,
            "connection": self.connection,
            "provider": self.provider,
            "status": self.status,
            "retry_after": self.retry_after,
        }
        shown = "".join(f", {name}={value!r}" for name, value in fields.items() if value is not None)
        return f"{type(self).__name__}({self.message!r}{shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))

    def locate(self, connection: str, provider: str, secrets: Iterable[str] = ()) -> None:
        """Fill in where the error happened, keeping what the raiser already said, and redact ``secrets``.

        Causes that show one are replaced by their redacted text.
        """
        self.connection = self.connection or connection
        self.provider = self.provider or provider
        secrets = tuple(secrets)
        self.message = redact(self.message, secrets)
        self.hint = redact(self.hint, secrets)
        self.args = (self.message,)
        _clean_chain(self, secrets, {id(self)})


class _Redacted(Exception):
    """Stands in a chain of causes for an exception whose own text has a secret in it."""


def _clean_chain(exc: BaseException, secrets: tuple[str, ...], seen: set[int]) -> None:
    """Replace causes and contexts that show a secret: whoever prints a traceback prints them, too."""
    suppressed = exc.__suppress_context__
    if exc.__cause__ is not None:
        exc.__cause__ = _clean(exc.__cause__, secrets, seen)
    if exc.__context__ is not None:
        exc.__context__ = _clean(exc.__context__, secrets, seen)
    exc.__suppress_context__ = suppressed


def _clean(exc: BaseException, secrets: tuple[str, ...], seen: set[int]) -> BaseException:
    if id(exc) not in seen:
        seen.add(id(exc))
        _clean_chain(exc, secrets, seen)
    notes = "\n".join(map(str, getattr(exc, "__notes__", ())))
    if all(redact(text, secrets) == text for text in (str(exc), repr(exc), notes)):
        return exc
    shown = _Redacted(redact(f"{type(exc).__name__}: {exc}", secrets)).with_traceback(exc.__traceback__)
    shown.__cause__, shown.__context__ = exc.__cause__, exc.__context__
    shown.__suppress_context__ = exc.__suppress_context__
    return shown


def _rebuild(cls: type[LMBridgeError], state: dict[str, Any]) -> LMBridgeError:
    error = cls.__new__(cls, state["message"])
    error.__dict__.update(state)
    error.args = (state["message"],)
    return error


class ConfigurationError(LMBridgeError):
    """A setting, an address or an argument is wrong; nothing was sent."""


class UnknownConnection(ConfigurationError):
    """No connection of that name exists."""

    default_hint = "run 'lmbridge config' to see every connection"


class InvalidRequest(ConfigurationError, ValueError):
    """The request contradicts itself, or a value is out of range; nothing was sent."""


class PluginError(LMBridgeError):
    """A plugin cannot be loaded, or broke the hook contract."""

    default_hint = "run 'lmbridge providers' to see every plugin and what is wrong with it"


class UnknownProvider(PluginError):
    """No provider plugin of that name is installed and enabled."""


class UnsupportedFeature(LMBridgeError):
    """Provider, model or server cannot honour a part of the request.

    What is known beforehand is refused before anything is sent.

    Attributes:
        features: names of what cannot be honoured, e.g. ``("seed", "stop")``.
    """

    default_hint = "leave this out, or choose another connection or model"

    def __init__(self, message: str, *, features: Iterable[str] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.features = tuple(features)


class ImageRejected(LMBridgeError):
    """An image cannot be read, or the server refuses it."""

    default_hint = "convert it to a smaller PNG or JPEG"


class ServerUnreachable(LMBridgeError):
    """Nobody answers at the address, or the connection broke before the answer began.

    Attributes:
        sent: ``False`` if it is certain that the server never saw the request (then a retry is safe).
    """

    default_hint = "is the server running, and is the address right?"
    default_retryable = True

    def __init__(self, message: str, *, sent: bool = True, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.sent = sent


class AuthenticationFailed(LMBridgeError):
    """The server asks for a key, refuses the one sent, or the key lacks a permission."""

    default_hint = "set LMBRIDGE_CONNECTIONS__<NAME>__API_KEY for this connection"


class ModelNotFound(LMBridgeError):
    """The server does not have the model.

    Attributes:
        model: the name that was asked for.
        near: names of the server's models that come close.
    """

    default_hint = "'lmbridge models' lists what the server has"

    def __init__(self, message: str, *, model: str = "", near: Iterable[str] = (), **fields: Any) -> None:
        self.model = model
        self.near = tuple(near)
        if self.near:
            fields.setdefault("hint", f"did you mean {', '.join(map(repr, self.near))}?")
        super().__init__(message, **fields)


class ModelLoadFailed(LMBridgeError):
    """The server has the model and could not load it."""

    default_hint = "free memory on the server, choose a smaller model or a smaller context length"


class ContextOverflow(LMBridgeError):
    """The prompt does not fit the context that the model is loaded with."""

    default_hint = "shorten the prompt, or load the model with a larger context length"


class RateLimited(LMBridgeError):
    """Too many requests."""

    default_hint = "wait, and send fewer requests at a time"
    default_retryable = True


class ServerError(LMBridgeError):
    """The server refused the request or failed, for a reason that has no class of its own."""

    default_hint = "the server's own log says more"


class ProtocolError(LMBridgeError):
    """The answer is not what the protocol promises, or it ends without its end mark."""

    default_hint = "if it happens again, the server's own log says why"


class TimedOut(LMBridgeError, TimeoutError):
    """One of the four clocks ran out.

    Attributes:
        clock: ``"connect"``, ``"first_event"``, ``"idle"`` or ``"total"``.
        seconds: the limit.
    """

    default_hint = "try again, or raise the timeout"
    default_retryable = True

    def __init__(self, message: str, *, clock: str = "", seconds: float | None = None, **fields: Any) -> None:
        if clock == "connect":
            fields.setdefault("hint", "is the address right? A slow server needs a longer connect timeout")
        super().__init__(message, **fields)
        self.clock = clock
        self.seconds = seconds


class Cancelled(LMBridgeError):
    """Somebody other than the task that awaits it stopped the call: a stop button, ``Bridge.close``."""
