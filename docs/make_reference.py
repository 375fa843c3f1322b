"""The reference of commands, errors, events, hooks, emulator and kit, generated from the code.

``python docs/make_reference.py [--check] [FOLDER]`` brings ``docs/reference``, or ``FOLDER``, up to date;
with ``--check`` it only says, by its exit status, whether it is. What is outside the marks is written by
hand.
"""

import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from _commands import commands
from _docstrings import doc_of, fields_table, table
from _testing import TESTING

import lmbridge
from lmbridge import errors, events, operations
from lmbridge.catalog import Capabilities, FallbackKey, LoadedInstance, Model, ProviderInfo
from lmbridge.cli.app import app
from lmbridge.cli.exits import code_of
from lmbridge.context import Context
from lmbridge.emulator.behaviours import behaviours
from lmbridge.emulator.settings import Evidence, Pace
from lmbridge.emulator.switches import switches
from lmbridge.hookspecs import OPTIONAL_HOOKS, HookSpecs

_FOLDER = Path(__file__).parent / "reference"


# -- errors --------------------------------------------------------------------------------------------------


def _error_tree() -> str:
    tree = (errors.__doc__ or "").partition("::\n\n")[2].partition("\n\nEvery error")[0]
    return f"```text\n{inspect.cleandoc(tree).replace('``', '')}\n```\n"


def _error_attributes() -> str:
    rows = ((f"`{name}`", meaning) for name, meaning in doc_of(errors.LMBridgeError).items.items())
    return table(("attribute", "meaning"), rows)


def _error_classes() -> str:
    return table(
        ("error", "meaning", "also carries", "hint, where the raiser gives none", "retryable", "exit code"),
        (_error_row(cls) for cls in _error_types()),
    )


def _error_types() -> Iterator[type[errors.LMBridgeError]]:
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type) and value is not errors.LMBridgeError:
            yield value


def _error_row(cls: type[errors.LMBridgeError]) -> tuple[str, ...]:
    doc = doc_of(cls)
    carries = "; ".join(f"`{name}`: {meaning.rstrip('.')}" for name, meaning in doc.items.items())
    example = cls("x")
    retryable = "yes" if example.retryable else "no"
    return f"`{cls.__name__}`", doc.text, carries, example.hint, retryable, str(int(code_of(example)))


# -- events --------------------------------------------------------------------------------------------------

_EXAMPLES: tuple[Any, ...] = (
    events.Progress("loading model", 0.25),
    events.ReasoningDelta("Let me see."),
    events.TextDelta("The sky"),
    events.ToolCallDelta(0, "call_1", "get_weather", '{"town":'),
    events.ToolResult(0, "call_1", "search", "three results"),
    events.Usage(12, 34, 46),
    events.Finish("stop", "qwen3-vl-4b", events.Stats(time_to_first_token=0.4)),
)


def _events() -> str:
    by_type = {type(example): example for example in _EXAMPLES}
    return "\n".join(
        f"### {_struct(cls)}\nAs JSON:\n\n```json\n{lmbridge.to_json(by_type[cls]).decode()}\n```\n"
        for cls in typing.get_args(lmbridge.Event)
    )


def _struct(cls: type[msgspec.Struct]) -> str:
    return f"{cls.__name__}\n\n{doc_of(cls).text}\n\n{fields_table(cls)}"


def _structs(*classes: type[msgspec.Struct]) -> str:
    return "\n".join(f"### {_struct(cls)}" for cls in classes)


# -- hooks ---------------------------------------------------------------------------------------------------


def _hooks() -> str:
    functions = {name: item for name, item in vars(HookSpecs).items() if inspect.isfunction(item)}
    return "\n".join(_hook(name, item) for name, item in functions.items())


def _hook(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    arguments = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    given = ", ".join(f"{parameter.name}: {parameter.annotation}" for parameter in arguments)
    doc = doc_of(function)
    parts = [
        f"### {name}",
        f"```text\n{name}({given}) -> {signature.return_annotation}\n```",
        _whose(name),
        doc.text,
        *(f"{section}: {text}" for section, text in doc.sections.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _whose(name: str) -> str:
    if name in OPTIONAL_HOOKS:
        return "Providers; may be left out."
    if name == "presets":
        return "Middleware."
    return "Providers." if name == "list_models" else "Providers; one of `generate` and `stream` is enough."


def _context() -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in doc_of(Context).items.items()]
    for name, member in vars(Context).items():
        if isinstance(member, property):
            rows.append((f"`{name}`", doc_of(member).text))
        elif inspect.isfunction(member) and not name.startswith("_"):
            rows.append((f"`{_call(name, member)}`", doc_of(member).text))
    return table(("member", "meaning"), rows)


def _call(name: str, function: Callable[..., Any]) -> str:
    arguments = ", ".join(
        str(parameter).partition(":")[0]
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    )
    return f"{'await ' if inspect.iscoroutinefunction(function) else ''}{name}({arguments})"


def _requests() -> str:
    classes = (getattr(operations, name) for name in operations.__all__)
    return _structs(*(cls for cls in classes if isinstance(cls, type)))


# -- the emulator --------------------------------------------------------------------------------------------


def _evidence_counts() -> str:
    known = [row.evidence for row in behaviours()] + [switch.evidence for switch in switches()]
    counted = ((mark, str(known.count(mark))) for mark in typing.get_args(Evidence))
    return table(("mark", "behaviours and switches"), counted)


def _behaviours() -> str:
    parts = []
    for area, rows in itertools.groupby(behaviours(), key=lambda row: row.area):
        listed = ((row.subject, row.says, row.evidence, row.source) for row in rows)
        parts.append(f"### {area}\n\n{table(('what', 'does', 'known', 'source'), listed)}")
    return "\n".join(parts)


def _switches() -> str:
    rows = (
        (
            f"`{switch.name}`",
            switch.meaning,
            switch.kind,
            _default(switch.default),
            switch.evidence,
            switch.source,
        )
        for switch in switches()
    )
    return table(("switch", "meaning", "takes", "default", "known", "source"), rows)


def _default(value: Any) -> str:
    if isinstance(value, Pace):
        return "visible"
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


_PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "cli.md": {"commands": lambda: commands(app, "lmbridge")},
    "emulator.md": {"summary": _evidence_counts, "behaviours": _behaviours, "switches": _switches},
    "errors.md": {"tree": _error_tree, "attributes": _error_attributes, "classes": _error_classes},
    "events.md": {
        "events": _events,
        "result": lambda: _structs(events.Result, events.Stats),
    },
    "hooks.md": {
        "hooks": _hooks,
        "context": _context,
        "requests": _requests,
        "info": lambda: _structs(ProviderInfo, FallbackKey, Capabilities, Model, LoadedInstance),
    },
    "testing.md": TESTING,
}


def render(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with what stands between its marks ``begin …`` and ``end …`` made anew.

    Raises:
        ValueError: the page lacks a pair of marks.
    """
    for mark, make in parts.items():
        head, begun, rest = text.partition(f"<!-- begin {mark} -->\n")
        _, ended, tail = rest.partition(f"<!-- end {mark} -->\n")
        if not begun or not ended:
            raise ValueError(f"the page has no part named {mark!r}")
        text = f"{head}{begun}\n{make()}\n{ended}{tail}"
    return text


def main(arguments: Sequence[str]) -> int:
    """Bring the pages up to date, or with ``--check`` compare them; return the exit status."""
    folder = next((Path(item) for item in arguments if not item.startswith("-")), _FOLDER)
    stale = []
    for name, parts in _PARTS.items():
        old = (folder / name).read_text(encoding="utf-8")
        new = render(old, parts)
        if new == old:
            continue
        stale.append(name)
        if "--check" not in arguments:
            (folder / name).write_text(new, encoding="utf-8", newline="\n")
    if stale and "--check" in arguments:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python docs/make_reference.py\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
