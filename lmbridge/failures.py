"""Error bodies of every form that servers use, turned into the tree of :mod:`lmbridge.errors`."""

from collections.abc import Iterable, Mapping
from math import isfinite
from time import time
from typing import Any

import msgspec

from lmbridge.errors import LMBridgeError, ProtocolError, ServerError
from lmbridge.verdicts import shown
from lmbridge.wordings import classify

__all__ = ["classify", "error_in", "from_body", "parse_retry_after"]

_BODY_LIMIT = 256 * 1024  # bytes of a body that are looked at
_TITLE_LIMIT = 8192  # characters of a web page in which its title is looked for
_WAIT_LIMIT = 86_400.0
_NOTHING = frozenset({'""', "{}", "[]", "null"})


def from_body(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    model: str | None = None,
    known_models: Iterable[str] = (),
) -> LMBridgeError:
    """Return the error that an HTTP answer stands for.

    Understands string and object errors, FastAPI's ``detail``, plain text, web pages and empty bodies. A web
    page with a status below 300 is a ``ProtocolError``.
    """
    text = body[:_BODY_LIMIT].decode("utf-8-sig", "replace").strip()
    if text in _NOTHING:
        text = ""
    retry_after = _retry_after_of(headers)
    payload = _decode(text)
    if payload is not None:
        fields = _fields(payload)
        fields["message"] = fields["message"] or text
    elif text.startswith("<"):
        return _web_page(status, text, retry_after)
    else:
        fields = {"message": text}
    return classify(**fields, status=status, retry_after=retry_after, model=model, known_models=known_models)


def error_in(
    payload: Mapping[str, Any],
    *,
    status: int | None = None,
    model: str | None = None,
    known_models: Iterable[str] = (),
) -> LMBridgeError | None:
    """Return the error that a decoded answer or stream event holds although its status says success.

    Servers do that once a stream has begun, and LM Studio for unknown routes (observed,
    lmstudio-bug-tracker#1879). ``None`` if there is no error, or an empty one.
    """
    error = payload.get("error")
    if not error and "error" not in (payload.get("type"), payload.get("object")):
        choices = payload.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        error = first.get("error") if isinstance(first, Mapping) else None  # OpenRouter
        if not error:
            return None
        payload = {"error": error}
    fields = _fields(payload)
    fields["message"] = fields["message"] or "the server reports an error without a text"
    return classify(**fields, status=status, model=model, known_models=known_models)


def parse_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, 0 to 86,400, or ``None`` if it is no use.

    Args:
        value: seconds, or a date as HTTP writes it.
        now: seconds since the epoch, for dates; the present by default.
    """
    if not value or len(value) > 64 or not value.isascii():
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _parse_date(value)
        seconds = -1.0 if moment is None else max(0.0, moment - (time() if now is None else now))
    return min(seconds, _WAIT_LIMIT) if isfinite(seconds) and seconds >= 0 else None


def _parse_date(value: str) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - rarely needed, dear to import

    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _retry_after_of(headers: Mapping[str, str]) -> float | None:
    lower = {name.lower(): value for name, value in headers.items()}
    millis = parse_retry_after(lower.get("retry-after-ms"))  # OpenAI
    return millis / 1000 if millis is not None else parse_retry_after(lower.get("retry-after"))


def _decode(text: str) -> Any:
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return payload if isinstance(payload, dict | list | str) and payload else None


def _fields(payload: Any) -> dict[str, Any]:
    """Return message, code, kind and param of a decoded error body of any form."""
    if isinstance(payload, list):  # Google wraps the object in a list
        payload = payload[0] if payload else ""
    if not isinstance(payload, Mapping):
        return {"message": _text(payload)}
    error = payload.get("error")
    if isinstance(error, list):
        error = error[0] if error else None
    body = error if isinstance(error, Mapping) else payload
    message = _message(body)
    if isinstance(error, str) and error not in message:
        message = f"{error}: {message}" if message else error
    inner = _decode(message) if message.startswith("{") else None
    if isinstance(inner, Mapping) and inner.get("error"):  # a gateway has wrapped the error as text
        return _fields({"error": inner["error"]} if isinstance(inner["error"], Mapping) else inner)
    return {
        "message": message + _metadata(body.get("metadata")),
        "code": body.get("code") if isinstance(body.get("code"), str | int) else None,
        "kind": _text(body.get("type")) or None,
        "param": _text(body.get("param")) or None,
    }


def _message(body: Mapping[str, Any]) -> str:
    for name in ("message", "detail", "msg", "errors", "error_description", "reason"):
        if body.get(name):
            return _text(body[name])
    return ""


def _text(value: Any) -> str:
    """Return any JSON value as text; FastAPI's ``{"loc", "msg"}`` as ``body.model: field required``."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return "; ".join(_text(item) for item in value[:20])
    if isinstance(value, Mapping) and isinstance(value.get("msg"), str):
        loc = value.get("loc")
        where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
        return f"{where}: {value['msg']}" if where else value["msg"]
    if isinstance(value, Mapping) and isinstance(value.get("message"), str):
        return str(value["message"])
    return msgspec.json.encode(value).decode()


def _metadata(value: Any) -> str:
    """Return what OpenRouter adds: the text of the provider behind it, or the reasons of its moderation."""
    if not isinstance(value, Mapping):
        return ""
    raw = _text(value.get("raw"))
    inner = _decode(raw) if raw.startswith("{") else None
    if isinstance(inner, Mapping):
        error = inner.get("error")
        raw = _message(error if isinstance(error, Mapping) else inner) or _text(error) or raw
    more = [_text(value.get("provider_name")), raw, _text(value.get("reasons"))]
    return "".join(f": {part}" for part in more if part)


def _web_page(status: int, text: str, retry_after: float | None) -> LMBridgeError:
    from html import unescape  # noqa: PLC0415 - rarely needed

    lower = text[:_TITLE_LIMIT].lower()
    start = lower.find(">", lower.find("<title")) + 1 if "<title" in lower else 0
    end = lower.find("</title", start)
    title = unescape(text[start:end]) if 0 < start < end else ""
    message = "the server answered with a web page" + (f": {title}" if title else "")
    hint = "this is a web page, not an API: wrong port or path?"
    if status < 300:
        return ProtocolError(shown(message), hint=hint, status=status)
    error = classify(message, status=status, retry_after=retry_after)
    if type(error) is ServerError and 400 <= status < 500:
        error.hint = hint
    return error
