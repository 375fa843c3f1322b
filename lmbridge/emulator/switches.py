"""The switches as a table made from the code, and how they are changed from outside, by name."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lmbridge.emulator import settings
from lmbridge.emulator.settings import ApiToken, Evidence, Pace, Settings
from lmbridge.errors import near_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")


class SwitchError(ValueError):
    """A switch cannot be set so.

    Args:
        message: what is wrong; never a token.
        kind: `unknown_switch` or `invalid_value`.
        name: as it was given.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, kind: str, name: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Switch:
    """One field of `Settings`.

    Attributes:
        name: of the field.
        kind: which values it takes, in words.
        default: its value in a plain emulator.
        evidence: how its behaviour is known; see `lmbridge.emulator.settings`.
        source: where that is known from.
        meaning: the field's docstring, on one line.
    """

    name: str
    kind: str
    default: Any
    evidence: Evidence
    source: str
    meaning: str


def switches() -> list[Switch]:
    """Return all fields of `Settings` in their order; the first call reads the source, hence the disk."""
    return list(_table())


@functools.cache
def _table() -> tuple[Switch, ...]:
    meanings, kinds, plain = _meanings(), typing.get_type_hints(Settings), Settings()
    return tuple(
        Switch(
            field.name,
            _in_words(kinds[field.name]),
            getattr(plain, field.name),
            field.metadata["evidence"],
            field.metadata["source"],
            meanings.get(field.name, ""),
        )
        for field in dataclasses.fields(Settings)
    )


def changed(present: Settings, changes: Mapping[str, Any], *, strict: bool = True) -> Settings:
    """Return the settings with some switches changed: all of them, or none.

    Args:
        present: stays as it is.
        changes: new values by name. A part of the pace is `pace.token` and the like, or `pace` is a mapping
            of its parts.
        strict: values have the types of JSON; else they may be words, as on a command line.

    Raises:
        SwitchError: there is no such switch, or it does not take that value.
    """
    kinds, values = typing.get_type_hints(Settings), {}
    pace = dict(_parts(changes))
    for name, value in changes.items():
        if name.startswith("pace.") or (name == "pace" and not isinstance(value, Pace)):
            continue
        if name not in kinds:
            raise unknown(name)
        values[name] = _converted(name, value, kinds[name], strict=strict)
    if pace:
        values["pace"] = _pace(values.get("pace", present.pace), pace, strict=strict)
    return _made(present, values)


def names() -> list[str]:
    """Return the names of all switches, the parts of the pace apart."""
    plain = [field.name for field in dataclasses.fields(Settings) if field.name != "pace"]
    return [*(f"pace.{field.name}" for field in dataclasses.fields(Pace)), *plain]


def unknown(name: str) -> SwitchError:
    """Return the error for a switch that does not exist."""
    near = near_matches(name, names())
    hint = f"did you mean {near[0]}?" if near else ""
    return SwitchError(f"the emulator has no switch {name!r}", kind="unknown_switch", name=name, hint=hint)


def shown(value: Any) -> Any:
    """Return a switch's value for a reader: tokens reduced to what they permit, a pace to its numbers."""
    if isinstance(value, Pace):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [shown(item) for item in value]
    if isinstance(value, ApiToken):
        return {"value": "***", "mcp": value.mcp}
    return value


def shown_of(present: Settings, name: str) -> Any:
    """Return the present value of a switch for a reader; tokens are never shown."""
    return shown(present.api_tokens() if name == "tokens" else getattr(present, name))


def _parts(changes: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield the parts of the pace that are named in any way."""
    whole = changes.get("pace")
    if whole is not None and not isinstance(whole, Pace):
        if not isinstance(whole, dict):
            raise _invalid("pace", "an object of numbers")
        yield from whole.items()
    for name, value in changes.items():
        if name.startswith("pace."):
            yield name.removeprefix("pace."), value


def _pace(present: Pace, parts: Mapping[str, Any], *, strict: bool) -> Pace:
    kinds = typing.get_type_hints(Pace)
    for name in parts:
        if name not in kinds:
            raise unknown(f"pace.{name}")
    values = {
        name: _converted(f"pace.{name}", value, kinds[name], strict=strict) for name, value in parts.items()
    }
    return _checked(lambda: dataclasses.replace(present, **values))


def _made(present: Settings, values: Mapping[str, Any]) -> Settings:
    made = _checked(lambda: present.replace(**values))
    _checked(made.api_tokens)
    return made


def _checked(make: Callable[[], T]) -> T:
    """Return what is made; a limit that it breaks is an error of the switch that the message names."""
    try:
        return make()
    except ValueError as error:
        name = str(error).partition(" ")[0]
        raise SwitchError(
            str(error), kind="invalid_value", name=name if name in names() else "tokens"
        ) from None


def _converted(name: str, value: Any, kind: Any, *, strict: bool) -> Any:
    if not strict and isinstance(value, str) and value.lower() == "none":
        value = None
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, ValueError) as error:
        if name == "tokens":  # whose value must not be told
            raise _invalid(name, "a list of tokens of the form sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY") from None
        raise _invalid(name, _in_words(kind), value) from error


def _invalid(name: str, takes: str, value: Any = ...) -> SwitchError:
    told = (
        "so" if value is ... else repr(value) if len(repr(value)) <= 100 else f"such a {type(value).__name__}"
    )
    return SwitchError(f"{name} cannot be {told}", kind="invalid_value", name=name, hint=f"it takes {takes}")


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "none",
    Pace: "an object of numbers",
    ApiToken: "a token",
}


def _in_words(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(str(argument) for argument in arguments)}"
    if origin is tuple:
        return "a list of tokens" if ApiToken in typing.get_args(arguments[0]) else "a list of texts"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    return _WORDS[kind]


def _meanings() -> dict[str, str]:
    """Return the texts below the fields, which Python itself does not keep; none without the sources."""
    try:
        module = ast.parse(inspect.getsource(settings))
    except OSError:
        return {}
    classes = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    found = {}
    for field, after in itertools.pairwise(next(classes).body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(inspect.cleandoc(text).split())
    return found
