"""What the emulated models say: deterministic, and different for everything that was sent differently."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lmbridge.emulator import directives, schema
from lmbridge.emulator.conversation import Conversation, Tool, ToolCall, last_user, tool_rounds

if TYPE_CHECKING:
    from lmbridge.emulator.pictures import Sight

OPENERS = (
    "Here is what reached me.",
    "This is what I was given.",
    "I have read everything you sent.",
    "Let me say what I received.",
    "Everything has arrived.",
    "I looked at all of it.",
)
CLOSINGS = (
    "That is all I can tell.",
    "Ask me for more if you like.",
    "Nothing else came with it.",
    "I hope that helps.",
    "So much for this turn.",
)
LEXICON = [
    "light",
    "river",
    "stone",
    "quiet",
    "window",
    "paper",
    "silver",
    "morning",
    "garden",
    "number",
    "letter",
    "orange",
    "mountain",
    "simple",
    "travel",
    "answer",
    "picture",
    "winter",
    "music",
    "harbour",
    "copper",
    "little",
    "bridge",
    "yellow",
    "forest",
    "market",
    "summer",
    "engine",
    "ocean",
    "candle",
]
GARBLED = '{"a": 1, oops'
"""Arguments that cannot be read."""

EFFORT_WORDS = {"off": 0, "none": 0, "low": 12, "on": 24, "medium": 24, "high": 48, "xhigh": 96}
"""How many words of reasoning an effort gives."""


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of an answer.

    Attributes:
        kind: `reasoning`, `message` or `call`.
        text: what is said; for a `call`, its arguments where they are no JSON.
        call: the tool call, for `call`.
        problem: why the call fails: `invalid_name`, `invalid_format`, or None.
    """

    kind: Literal["reasoning", "message", "call"]
    text: str = ""
    call: ToolCall | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that an answer depends on.

    Attributes:
        turns: the conversation.
        sights: what was seen in its pictures, in order.
        options: the options that the request named, by their canonical names.
        seed: another seed gives another wording.
        effort: how much to reason; `off` for none.
        schema: the answer is JSON that fits it.
        grammar: the answer is the first sentence of this GBNF grammar, where it is one of plain alternatives.
        tools: what may be called.
        tool_choice: `auto`, `none` or `required`.
        completion: the text is continued, not answered.
    """

    turns: Conversation
    sights: list[Sight] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    effort: str = "off"
    schema: dict[str, Any] | None = None
    grammar: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    completion: bool = False

    @property
    def last_text(self) -> str:
        """The last user message."""
        index = last_user(self.turns)
        return self.turns[index].text if index >= 0 else ""

    def salt(self) -> str:
        """Return what all choices of this answer are made from."""
        return f"{self.seed}/{self.last_text}"


def compose(question: Question) -> list[Step]:
    """Return the reasoning, the tool calls and the answer of one round."""
    asked = directives.parse(question.last_text)
    steps = [Step("reasoning", text)] if (text := _reasoning(question, asked)) else []
    calls = _calls(question, asked)
    if calls:
        return steps + calls
    return [*steps, Step("message", _message(question, asked))]


def _choose(options: tuple[str, ...] | list[str], salt: str) -> str:
    return options[zlib.crc32(salt.encode("utf-8", "surrogatepass")) % len(options)]


def _snippet(text: str, limit: int = 80) -> str:
    flat = " ".join(directives.PATTERN.sub("", text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _stretched(text: str, words: int, salt: str) -> str:
    """Return the text with exactly so many words."""
    have = text.split(" ")[:words] if text else []
    have += [_choose(LEXICON, f"{salt}/{index}") for index in range(len(have), words)]
    return " ".join(have)


def _reasoning(question: Question, asked: directives.Directives) -> str:
    if question.effort in ("off", "none"):
        return ""
    if asked.think is not None:
        return asked.think
    pictures = len(question.sights)
    base = f"The user says: {_snippet(question.last_text, 40)!r}. I count {len(question.turns)} turns"
    base += f" and {pictures} pictures." if pictures else "."
    words = asked.thoughts if asked.thoughts is not None else EFFORT_WORDS.get(question.effort, 24)
    return _stretched(base, words, question.salt())


def _calls(question: Question, asked: directives.Directives) -> list[Step]:
    if question.tool_choice == "none" or not question.tools:
        return []
    round_number = tool_rounds(question.turns) + 1
    if asked.garbled and round_number == 1:
        call = _call(question, asked.garbled, {}, 0).call
        return [Step("call", GARBLED, call=call, problem="invalid_format")]
    wanted = asked.tools.get(round_number, [])
    if not wanted and round_number == 1 and not asked.tools:
        mentioned = [tool.name for tool in question.tools if _mentions(question.last_text, tool.name)]
        wanted = [(name, None) for name in mentioned[:1]]
    if not wanted and question.tool_choice == "required":
        wanted = [(question.tools[0].name, None)]
    return [_call(question, name, arguments, index) for index, (name, arguments) in enumerate(wanted)]


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _call(question: Question, name: str, arguments: dict[str, Any] | None, index: int) -> Step:
    tool = next((tool for tool in question.tools if tool.name == name), None)
    if arguments is None:
        made = schema.example(tool.parameters, question.salt()) if tool and tool.parameters else {}
        arguments = made if isinstance(made, dict) else {}
    digest = zlib.crc32(
        f"{question.salt()}/{len(question.turns)}/{index}/{name}".encode("utf-8", "surrogatepass")
    )
    call = ToolCall(str(100_000_000 + digest % 900_000_000), name, arguments)
    return Step("call", call=call, problem=None if tool else "invalid_name")


def _message(question: Question, asked: directives.Directives) -> str:
    if question.schema is not None:
        return json.dumps(schema.example(question.schema, question.salt()), ensure_ascii=False)
    if question.grammar is not None and (sentences := _sentences(question.grammar)):
        return _choose(sentences, question.salt())
    if asked.say is not None:
        return asked.say
    text = " ".join(_sentences_about(question))
    return text if asked.words is None else _stretched(text, asked.words, question.salt())


def _sentences(grammar: str) -> list[str]:
    """Return the sentences of a grammar whose root is a choice of literals; none for any other grammar."""
    match = re.search(r"^\s*root\s*::=\s*(.+?)\s*$", grammar, re.MULTILINE)
    if not match or not re.fullmatch(r'"[^"]*"(\s*\|\s*"[^"]*")*', match.group(1)):
        return []
    return re.findall(r'"([^"]*)"', match.group(1))


def _sentences_about(question: Question) -> list[str]:
    salt = question.salt()
    result = [_choose(OPENERS, salt)]
    result += [f"Picture {number} is {sight}." for number, sight in enumerate(question.sights, 1)]
    tool_results = [
        turn.text for turn in question.turns[last_user(question.turns) + 1 :] if turn.role == "tool"
    ]
    result += [f"The tool answered: {_snippet(text, 200)}." for text in tool_results]
    said = "You wrote" if question.completion else "You said"
    result.append(f"{said}: “{_snippet(question.last_text)}”.")
    result += _about_history(question.turns)
    if question.options:
        named = ", ".join(f"{key}={value}" for key, value in sorted(question.options.items()))
        result.append(f"Options: {named}.")
    if question.seed is not None:
        result.append(f"Variation {zlib.crc32(salt.encode('utf-8', 'surrogatepass')):08x}.")
    result.append(_choose(CLOSINGS, salt + "/closing"))
    return result


def _about_history(turns: Conversation) -> list[str]:
    result = []
    system = [turn.text for turn in turns if turn.role == "system"]
    if system:
        result.append(f"My instructions: “{_snippet(' '.join(system), 60)}”.")
    earlier = [turn for turn in turns[: max(last_user(turns), 0)] if turn.role != "system"]
    if earlier:
        roles = Counter(turn.role for turn in earlier)
        counted = " and ".join(f"{number} {role}" for role, number in sorted(roles.items()))
        result.append(f"Before that came {counted} messages, the last: “{_snippet(earlier[-1].text, 40)}”.")
    return result
