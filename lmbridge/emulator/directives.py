"""The prompt language: what a test can ask of the emulator in the text of the last user message.

================================  =====================================================================
``[[words=200]]``                 the answer has exactly so many words
``[[say=some text]]``             the answer is exactly this text
``[[think=some text]]``           the reasoning is exactly this text (models that reason only)
``[[thoughts=50]]``               the reasoning has exactly so many words (models that reason only)
``[[tool=name {"a": 1}]]``        call this tool; more of them: call several in one round
``[[tool2=name {"a": 1}]]``       call this tool in the second round, after the first results (`tool3` ...)
``[[garbled=name]]``              call this tool in the first round, with arguments that are no JSON
================================  =====================================================================

A tool that is merely named in the prompt (as a whole word) is called too, once, with arguments made from
its schema. A tool that was not offered is called all the same: `/api/v1` reports a failed call, on the other
routes the client finds out. Without arguments the schema decides.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

MAX_WORDS = 200_000
_OPENING = re.compile(r"\[\[(words|say|think|thoughts|garbled|tool\d*)=")
PATTERN = re.compile(r"\[\[(?:words|say|think|thoughts|garbled|tool\d*)=.*?(?:\]\]|\Z)", re.DOTALL)
"""A directive as a whole, to be left out where the prompt is quoted."""
_NAME = re.compile(r"\s*([\w./:-]+)\s*")


@dataclass(slots=True)
class Directives:
    """What the last user message asks for; `None` where it says nothing."""

    words: int | None = None
    say: str | None = None
    think: str | None = None
    thoughts: int | None = None
    tools: dict[int, list[tuple[str, dict[str, Any] | None]]] = field(default_factory=dict)
    """By round, from 1: names and arguments."""
    garbled: str | None = None


def parse(text: str) -> Directives:
    """Read all directives; what is malformed stays ordinary text."""
    found = Directives()
    position = 0
    while match := _OPENING.search(text, position):
        position = match.end()
        name = match.group(1)
        if name.startswith("tool"):
            position = _tool(found, int(name[4:] or 1), text, position)
            continue
        end = text.find("]]", position)
        if end < 0:
            break
        _simple(found, name, text[position:end])
        position = end + 2
    return found


def _simple(found: Directives, name: str, value: str) -> None:
    if name == "say":
        found.say = value
    elif name == "think":
        found.think = value
    elif name == "garbled":
        found.garbled = value.strip()
    elif value.strip().isascii() and value.strip().isdigit():
        setattr(found, name, min(int(value), MAX_WORDS))


def _tool(found: Directives, round_number: int, text: str, position: int) -> int:
    match = _NAME.match(text, position)
    if not match:
        return position
    arguments: dict[str, Any] | None = None
    end = match.end()
    if text.startswith("{", end):
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, end)
        except (ValueError, RecursionError):
            return position
    found.tools.setdefault(round_number, []).append((match.group(1), arguments))
    return end
