"""From the request as it was written to the request as the provider gets it; nothing is sent yet."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from lmbridge.catalog import Capabilities, Model, ProviderInfo
from lmbridge.chat import ImagePart, Options, Request, Timeouts, ToolResultPart
from lmbridge.errors import InvalidRequest, UnsupportedFeature
from lmbridge.levels import nearest_level

__all__ = ["adapt", "depends_on_model", "features_of", "validate_content", "validate_options"]

_Check = Callable[[Any], bool]

_LARGEST = sys.float_info.max
_SHOWN = 100  # characters of a wrong value


def _number(low: float, high: float = math.inf) -> _Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= _LARGEST  # no infinity, no NaN, and nothing that no float can hold
        and low <= value <= high
    )


def _integer(low: int, high: int = 2**63 - 1) -> _Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


_LEVELS = ("off", "on", "minimal", "low", "medium", "high", "xhigh")

#: What a model may lack though the transport can send it.
_MODELS = frozenset({"images", "tools", "structured_output"})

_RANGES: Mapping[str, tuple[_Check, str]] = {
    "temperature": (_number(0), "a number of 0 or more"),
    "top_p": (_number(0, 1), "a number from 0 to 1"),
    "min_p": (_number(0, 1), "a number from 0 to 1"),
    "top_k": (_integer(0), "a whole number of 0 or more"),
    "max_tokens": (_integer(1), "a whole number of 1 or more, or -1 for no limit"),
    "seed": (_integer(-(2**63)), "a whole number of at most 63 bits"),
    "presence_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "frequency_penalty": (_number(-2, 2), "a number from -2 to 2"),
    "repeat_penalty": (lambda value: _number(0)(value) and value > 0, "a number above 0"),
    "context_length": (_integer(1), "a whole number of 1 or more"),
    "ttl": (_number(0), "seconds of 0 or more"),
    "reasoning": (lambda value: value in _LEVELS, f"one of {', '.join(_LEVELS)}"),
    "stop": (
        lambda value: (
            isinstance(value, tuple | list) and all(isinstance(text, str) and text for text in value)
        ),
        "a sequence of texts that are not empty",
    ),
    "load": (_is_mapping, "a mapping with texts as keys"),
    "extra": (_is_mapping, "a mapping with texts as keys"),
    "draft_model": (lambda value: isinstance(value, str) and bool(value), "a model's name"),
}


def validate_options(explicit: Mapping[str, Any], timeouts: Timeouts) -> None:
    """Check how to sample, and the clocks.

    Args:
        explicit: the options that are set, the preset's included.
        timeouts: of the request.

    Raises:
        InvalidRequest: names the field and what it must be.
    """
    for name, value in explicit.items():
        check, wanted = _RANGES[name]
        if not check(value):
            raise InvalidRequest(f"{name} must be {wanted}, not {_shown(value)}")
    for name, seconds in msgspec.structs.asdict(timeouts).items():
        if seconds is not None and not _number(0)(seconds):
            raise InvalidRequest(f"the {name} timeout must be seconds of 0 or more, not {_shown(seconds)}")


def _shown(value: Any) -> str:
    """Return a value as it may stand in a message: of any length, and a number of any size."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of more digits than Python writes"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def validate_content(request: Request) -> None:
    """Check messages and tools.

    Raises:
        InvalidRequest: says what is wrong.
    """
    if not request.messages:
        raise InvalidRequest("the request has no message", hint="give messages=[Message.user('…')]")
    names = [tool.name for tool in request.tools]
    if len(set(names)) != len(names):
        raise InvalidRequest("two tools have the same name", hint="each tool must have a name of its own")
    choice = request.tool_choice
    if choice is not None and choice not in {"auto", "none", "required", *names}:
        raise InvalidRequest(
            f"tool_choice {_shown(choice)} names no tool of the request",
            hint="it must be 'auto', 'none', 'required' or the name of one of its tools",
        )
    for message in request.messages:
        has_result = any(isinstance(part, ToolResultPart) for part in message.parts)
        if has_result != (message.role == "tool"):
            raise InvalidRequest(
                "tool results belong in messages of the role 'tool', and only there",
                hint="Message.tool(content, tool_call_id) makes one",
            )


def features_of(request: Request) -> frozenset[str]:
    """Return the names of the :class:`Capabilities` that the request's content needs."""
    needs = set()
    for message in request.messages:
        if message.role in {"assistant", "tool"}:
            needs.add("history")
        for part in message.parts:
            if type(part) is ImagePart:
                needs.add("images")
    if request.tools:
        needs.add("tools")
    if request.response_format is not None:
        needs.add("structured_output")
    if request.conversation or request.previous_response_id is not None:
        needs.add("conversation")
    if request.integrations:
        needs.add("integrations")
    return frozenset(needs)


def depends_on_model(request: Request, features: frozenset[str]) -> bool:
    """Whether what the server says of its models decides about the request."""
    return request.model is None or request.options.reasoning is not None or not features.isdisjoint(_MODELS)


def adapt(
    request: Request,
    info: ProviderInfo,
    model: Model | None,
    features: frozenset[str],
    explicit: Mapping[str, Any],
) -> tuple[Request, tuple[str, ...]]:
    """Return the request as the provider can honour it, and a note for each option that was left out.

    Raises:
        UnsupportedFeature: content that provider or model cannot honour; or an option, unless the request
            says ``on_unsupported="adapt"``.
    """
    if features:
        _refuse_content(request, info, model, features)
    refused = dict(_unsupported_options(explicit, info, model))
    if not refused:
        return (request.replace(options=_without(request.options, ())) if _endless(request) else request), ()
    if request.on_unsupported != "adapt":
        raise UnsupportedFeature(
            "; ".join(refused.values()),
            features=refused,
            hint="leave it out, choose another connection, or set on_unsupported='adapt'",
        )
    options = _without(request.options, refused)
    folded: tuple[str, ...] = ()
    if "seed" in refused and _sends(info, "seed") and info.max_seed is not None:
        seed = explicit["seed"] % (info.max_seed + 1)
        options = msgspec.structs.replace(options, seed=seed)
        folded = (refused.pop("seed") + f"; {seed} was sent",)
    levels = model.capabilities.reasoning_levels if model and _sends_reasoning(info) else None
    if "reasoning" in refused and levels and request.options.reasoning:
        level = nearest_level(request.options.reasoning, levels)
        options = msgspec.structs.replace(options, reasoning=level)
        sent = refused.pop("reasoning") + f"; {level!r} was sent"
        return request.replace(options=options), (*_left_out(refused), *folded, sent)
    return request.replace(options=options), (*_left_out(refused), *folded)


def _sends(info: ProviderInfo, option: str) -> bool:
    return info.options is None or option in info.options


def _sends_reasoning(info: ProviderInfo) -> bool:
    return _sends(info, "reasoning")


def _left_out(refused: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"left out: {why}" for why in refused.values())


def _without(options: Options, names: Iterable[str]) -> Options:
    """Return ``options`` without ``names``; no limit of tokens is the same as an unset one from here on."""
    changes: dict[str, Any] = dict.fromkeys(names)
    if options.max_tokens == -1:
        changes["max_tokens"] = None
    return msgspec.structs.replace(options, **changes) if changes else options


def _endless(request: Request) -> bool:
    return request.options.max_tokens == -1


def _refuse_content(
    request: Request, info: ProviderInfo, model: Model | None, features: frozenset[str]
) -> None:
    own = model.capabilities if model else Capabilities()
    for feature in sorted(features):
        name = feature.replace("_", " ")
        if getattr(info.capabilities, feature) is False:
            raise UnsupportedFeature(
                f"{info.title} cannot send {name}", features=[feature], hint="choose another connection"
            )
        if getattr(own, feature) is False:
            raise UnsupportedFeature(
                f"model {request.model!r} cannot handle {name}",
                features=[feature],
                hint="choose a model that can; 'lmbridge models' shows which",
            )


def _unsupported_options(
    explicit: Mapping[str, Any], info: ProviderInfo, model: Model | None
) -> Iterable[tuple[str, str]]:
    for name in explicit:
        if info.options is not None and name not in info.options:
            yield name, f"{info.title} has no {name}"
    seed, most = explicit.get("seed"), info.max_seed
    if seed is not None and most is not None and _sends(info, "seed") and not 0 <= seed <= most:
        yield "seed", f"{info.title} takes seeds from 0 to {most}, not {seed}"
    level = explicit.get("reasoning")
    if level is None or model is None or not _sends_reasoning(info):
        return
    capabilities = model.capabilities
    if capabilities.reasoning is False or capabilities.reasoning_levels == ():
        yield "reasoning", f"model {model.id!r} has no reasoning to set"
    elif capabilities.reasoning_levels is not None and level not in capabilities.reasoning_levels:
        levels = ", ".join(capabilities.reasoning_levels)
        yield "reasoning", f"model {model.id!r} has no reasoning level {level!r}, only {levels}"
