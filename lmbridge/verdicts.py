"""How a failure that a server reports becomes an error: its text, its hint and what else it tells."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias

from lmbridge.errors import LMBridgeError, ModelNotFound, UnsupportedFeature, near_matches

__all__ = ["Build", "Report", "make", "model_not_found", "shown", "unsupported"]

_SHOWN = 1000  # characters of a message that are shown
_NAMES_LIMIT = 200  # names taken from a list in a message, and characters of a name


class Report(NamedTuple):
    """What is known of a failure."""

    message: str
    status: int | None = None
    code: str = ""
    kind: str = ""
    param: str = ""
    retry_after: float | None = None
    model: str | None = None
    known_models: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The message in lower case, with single spaces, to look for wordings in."""
        return " ".join(self.message.lower().split())

    @property
    def base(self) -> dict[str, Any]:
        """The arguments that every error takes."""
        return {"status": self.status, "retry_after": self.retry_after}


Build: TypeAlias = Callable[[Report], LMBridgeError]


def shown(text: str) -> str:
    """Return ``text`` on one line, without control characters and cut to a length that can be shown."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > _SHOWN:  # cut at a space: half a key would not be recognised as one
        text = (text[:_SHOWN].rpartition(" ")[0] or text[:80]) + " …"
    return text


def _said(report: Report) -> str:
    text = shown(report.message)
    if report.status is None:
        return text or "the server reports an error without a text"
    try:
        phrase = f"HTTP {report.status} {HTTPStatus(report.status).phrase}"
    except ValueError:
        phrase = f"HTTP {report.status}"
    return f"{text} ({phrase})" if text else f"{phrase}, without a text"


def make(kind: type[LMBridgeError], hint: str | None = None, retryable: bool | None = None) -> Build:
    """Return the builder of a ``kind``; with ``None``, hint and ``retryable`` are those of the class."""
    advice = kind.default_hint if hint is None else hint
    return lambda report: kind(
        _said(report), hint=_with_pause(advice, report), retryable=retryable, **report.base
    )


def _with_pause(advice: str, report: Report) -> str:
    pause = f"the server asks to wait {report.retry_after:.0f} s" if report.retry_after else ""
    return "; ".join(filter(None, (advice, pause)))


def model_not_found(report: Report) -> LMBridgeError:
    """Build a ``ModelNotFound``, with near matches among the names that the message lists."""
    listed = _listed_models(report.message)
    known = tuple(dict.fromkeys((*report.known_models, *listed)))
    name = report.model or shown(_quoted(report.message))
    if name in known:  # the message names an example, or the server contradicts itself
        known = tuple(item for item in known if item != name)
    near = near_matches(name[:_NAMES_LIMIT], known[:_NAMES_LIMIT]) if name else ()
    fields = report.base
    if not near:
        fields["hint"] = _model_hint(report, known)
    return ModelNotFound(_said(report), model=name, near=near, **fields)


def _model_hint(report: Report, known: tuple[str, ...]) -> str:
    if known:
        return f"the server has {shown(', '.join(known[:8]))}"
    if "pull" in report.words:
        return f"pull it first: ollama pull {report.model or '<model>'}"
    if "loaded" in report.words:
        return "load a model on the server, or name one in the request"
    return "'lmbridge models' lists what the server has"


def _listed_models(text: str) -> tuple[str, ...]:
    """Return the names that a message lists, in LM Studio's two forms (observed)."""
    # Invalid model identifier "x". Please specify a valid downloaded model (e.g., a, b, c).
    examples = text.partition("(e.g., ")[2].partition(")")[0]
    # Model "x" not found. Please specify a valid model.\n\nYour models:\n\na\nb
    names = [*examples.split(","), *text.partition("Your models:")[2].split("\n")]
    return tuple(shown(name[:_NAMES_LIMIT]) for name in names[:_NAMES_LIMIT] if name.strip())


def _quoted(text: str) -> str:
    """Return the first text in quotes, ``""`` if there is none."""
    starts = [index for quote in "\"'`" if (index := text.find(quote)) >= 0]
    if not starts:
        return ""
    start = min(starts)
    end = text.find(text[start], start + 1, start + 2 + _NAMES_LIMIT)
    return text[start + 1 : end] if end > 0 else ""


_FEATURES = {
    "reasoning": ("reasoning", "thinking"),
    "tools": ("tool",),
    "response_format": ("response_format", "structured output"),
    "embed": ("embedding",),
}


def unsupported(report: Report) -> LMBridgeError:
    """Build an ``UnsupportedFeature`` that names what the server does not take."""
    found = [name for name, signs in _FEATURES.items() if any(sign in report.words for sign in signs)]
    feature = shown(report.param[:_NAMES_LIMIT]) or (found[0] if found else "")
    if not feature and "key" in report.words:  # Unrecognized key(s) in object: 'stop'
        feature = shown(_quoted(report.message))
    hint = f"leave out {feature!r}" if feature else "leave this out of the request"
    return UnsupportedFeature(
        _said(report),
        features=(feature,) if feature else (),
        hint=f"{hint}, or choose another model",
        **report.base,
    )
