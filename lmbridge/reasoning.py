"""Thinking told apart from answer, where a server mixes both into one text.

A backend that has reasoning in a field or fragment of its own makes its events from that, and gives only the
rest to :class:`ReasoningSplitter`. What the splitter knows:

* tags: ``<think>``, ``<thinking>``, ``<thought>``, ``<reason>``, ``<reasoning>`` (in lower case, capitalised,
  in capitals), ``<seed:think>``, ``<mm:think>`` (MiniMax), ``[THINK]`` (Mistral), ``<|channel>…<channel|>``
  (Gemma), ``◁think▷`` (Kimi), ``<|START_THINKING|>`` (Cohere), ``<|begin_of_thought|>``;
* gpt-oss' harmony channels:
  ``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>``;
* the marker that LM Studio leaks, ``__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_<hex>__`` (observed,
  lmstudio-bug-tracker#2371: reasoning, marker, answer; the ``START`` form is a precaution).
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from lmbridge.events import ReasoningDelta, TextDelta

__all__ = ["ReasoningSplitter"]

_Delta: TypeAlias = ReasoningDelta | TextDelta
_Step: TypeAlias = "Callable[[ReasoningSplitter, str, int, list[_Delta]], int]"

_NAMES = ("think", "thinking", "thought", "reason", "reasoning")
_FORMS = (form for name in _NAMES for form in (name, name.capitalize(), name.upper()))
#: Opening tag → closing tag.
_PAIRS = {f"<{name}>": f"</{name}>" for name in (*_FORMS, "seed:think", "mm:think")} | {
    "[THINK]": "[/THINK]",
    "<|channel>thought": "<channel|>",  # Gemma names the channel
    "<|channel>": "<channel|>",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
_CLOSINGS = tuple(dict.fromkeys(_PAIRS.values()))

# Harmony: what begins a header (it ends with <|message|>), and what ends a message.
_HEADERS = ("<|start|>assistant", "<|channel|>analysis", "<|channel|>commentary", "<|channel|>final")
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_MESSAGE = "<|message|>"
# In an answer that did not begin with a header, only this is certain enough not to be a mention.
_LATE_HEADERS = ("<|end|><|start|>assistant<|channel|>", "<|start|>assistant<|channel|>")
_HEADER_LIMIT = 512
_CUT_HEADER = re.compile(
    r"(?:<\|end\|>)?(?:<\|start\|>assistant)?(?:<\|channel\|>\w*)?(?: to=[\w.]*)?"
    r"(?: ?<\|constrain\|>\w*)?(?:<\|?\w*\|?)?"
)

_MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_"
_MARKER_PATTERN = _MARKER + "(?:START|END)_[0-9a-f]{1,64}__"
_MARKER_BEGIN = re.compile(_MARKER + "(?:START|END)_[0-9a-f]{1,64}_?")

_LEAD = re.compile("[<[_◁]")
_QUOTES = frozenset("`'\"")
_SPACE = re.compile(r"\s*")
_SPACE_LIMIT = 256

_LONE_NOTE = "a closing reasoning tag came without an opening one: the text before it may be reasoning"
_TOOL_NOTE = "a message of the model to a tool is shown as reasoning"


class _Tags:
    """A set of tags, to be found in a growing text. The marker belongs to every set."""

    def __init__(self, literals: Iterable[str] = ()) -> None:
        longest_first = sorted(literals, key=len, reverse=True)
        self.pattern = re.compile("|".join([*map(re.escape, longest_first), _MARKER_PATTERN]))
        whole = (*longest_first, f"{_MARKER}START_", f"{_MARKER}END_")
        self._begins = {text[:end] for text in whole for end in range(1, len(text))}
        self._begins |= {f"{_MARKER}START_", f"{_MARKER}END_"}
        self._longest = len(_MARKER) + 72

    def may_grow(self, text: str, start: int) -> bool:
        """Whether ``text[start:]`` is the begin of a tag, or of a longer tag."""
        if len(text) - start > self._longest:
            return False
        tail = text[start:]
        return tail in self._begins or (tail.startswith("__LM") and _MARKER_BEGIN.fullmatch(tail) is not None)

    def hold(self, text: str, start: int) -> int:
        """Return where the part of ``text[start:]`` begins that may become a tag, else the end."""
        for lead in _LEAD.finditer(text, max(start, len(text) - self._longest)):
            if self.may_grow(text, lead.start()):
                return lead.start()
        return len(text)


class _Mode(Struct, frozen=True):
    """What the current text is, and which tags count in it."""

    make: type[ReasoningDelta | TextDelta]
    tags: _Tags
    # Whether a piece without "<", "[" and "_" can be passed on unseen.
    plain: bool = True


_BORDER = _Tags((*_PAIRS, *_CLOSINGS, *_HEADERS, *_ENDS))
_TEXT = _Mode(TextDelta, _Tags())
# Kimi's tag is left out here so that texts without "<", "[" and "_" stay on the fast path.
_UNSURE_TAGS = (tag for tag in (*_PAIRS, *_CLOSINGS, *_LATE_HEADERS) if not tag.startswith("◁"))
_TEXT_UNSURE = _Mode(TextDelta, _Tags(_UNSURE_TAGS))
_HARMONY_TEXT = _Mode(TextDelta, _Tags((*_HEADERS, *_ENDS)))
_HARMONY_REASONING = _Mode(ReasoningDelta, _HARMONY_TEXT.tags)
_ANY_REASONING = _Mode(ReasoningDelta, _Tags((*_CLOSINGS, *_HEADERS, *_ENDS)), plain=False)
_MARKED_REASONING = _Mode(ReasoningDelta, _TEXT.tags)
_REASONING = {
    opening: _Mode(ReasoningDelta, _Tags((closing,)), plain=not closing.startswith("◁"))
    for opening, closing in _PAIRS.items()
}


class ReasoningSplitter:
    """Splits the text of one answer into reasoning and answer; any division into pieces gives the same.

    *Opening tags* count at the beginning of the answer and directly after reasoning, both after any white
    space; elsewhere (in a sentence, in code) they are text. White space around tags is dropped: before and
    after an opening one, after a closing one.

    *A closing tag without an opening one* comes from a chat template that has put the opening one into the
    prompt. It is dropped, once, unless it follows a quote or the mention of an opening tag. What came
    before it has been passed on as text by then, which :attr:`note` tells; ``starts_inside`` avoids it.

    *LM Studio's marker* counts everywhere, and so do *harmony's tokens* once the answer has used them. What a
    model says to a tool in harmony's commentary channel is reasoning.

    Only what may still become a tag is held back: at most 120 characters, in a harmony header 540, of white
    space at the very beginning 256.

    Args:
        starts_inside: the prompt has opened the reasoning already: everything up to the first closing tag is
            reasoning (all of it, if none comes).

    Attributes:
        note: what a careful reader should know, or ``""``; complete after :meth:`close`.
        unclosed: after :meth:`close`: the answer ended within reasoning.
    """

    __slots__ = (
        "_default",
        "_fresh",
        "_held",
        "_last",
        "_leading",
        "_make",
        "_mode",
        "_step",
        "note",
        "unclosed",
    )

    def __init__(self, *, starts_inside: bool = False) -> None:
        self.note = ""
        self.unclosed = False
        self._default = _ANY_REASONING if starts_inside else _TEXT_UNSURE
        self._mode = self._default
        self._make: type[_Delta] | None = None  # set: pieces without a lead character need no look
        self._held = ""
        self._last = ""  # ends with the last character passed on
        self._fresh = False  # white space at the begin of reasoning is still to be dropped
        self._leading = not starts_inside  # nothing was passed on yet
        # A plain function: a bound method would be a reference cycle.
        self._step: _Step = ReasoningSplitter._at_border

    def feed(self, text: str) -> list[_Delta]:
        """Return what is certain of ``text`` and of what was held back, as events that are not empty."""
        make = self._make
        if make is not None and text and "<" not in text and "_" not in text and "[" not in text:
            self._last = text
            return [make(text)]
        if not text:
            return []
        out: list[_Delta] = []
        text = self._held + text
        self._held = ""
        position = 0
        while position >= 0:
            position = self._step(self, text, position, out)
        passed = len(text) - len(self._held)
        if passed:
            self._last = text[passed - 1]
        plain = self._mode.plain and self._step is ReasoningSplitter._in_mode
        self._make = self._mode.make if plain and not self._held and not self._fresh else None
        return out

    def feed_all(self, pieces: list[str]) -> list[_Delta]:
        """Return what :meth:`feed` gives for the pieces, looking at all of them at once.

        Pieces in which there is nothing to split stay as they came, but empty ones.
        """
        if len(pieces) == 1:
            return self.feed(pieces[0])
        joined = "".join(pieces)
        split = self.feed(joined)
        if len(split) == 1 and len(split[0].text) == len(joined):
            make = type(split[0])
            return [make(piece) for piece in pieces if piece]
        return split

    def close(self) -> list[_Delta]:
        """End the answer and return what was held back."""
        out: list[_Delta] = []
        held, self._held, self._make = self._held, "", None
        if self._step is ReasoningSplitter._in_header:
            held = "" if _CUT_HEADER.fullmatch(held.lstrip()) else held
        elif self._step is ReasoningSplitter._at_border:
            held = self._close_at_border(held)
        self._emit(held, out)
        self.unclosed = self._step is ReasoningSplitter._in_mode and self._mode.make is ReasoningDelta
        return out

    def _close_at_border(self, held: str) -> str:
        tag = _BORDER.pattern.fullmatch(held.strip())
        if tag is not None:  # it might have become a longer one
            self._cross(tag[0])
            return ""
        cut = self._default is _HARMONY_TEXT and held.startswith("<|")
        return "" if cut else held

    # The steps take `text` from `position` on; they return the next position, or -1 when the text is done.

    def _at_border(self, text: str, position: int, _out: list[_Delta]) -> int:
        """Look for a tag at the begin of the answer or after reasoning."""
        found = _SPACE.match(text, position)
        start = found.end() if found else position
        if self._leading and start - position > _SPACE_LIMIT:
            return self._enter(self._default, position)
        if start == len(text) or _BORDER.may_grow(text, start):
            self._held = text[position if self._leading else start :]
            return -1
        tag = _BORDER.pattern.match(text, start)
        if tag is None:
            return self._enter(self._default, position if self._leading else start)
        if tag[0] in _HEADERS:
            self._mode = _TEXT if self._default is _TEXT_UNSURE else self._default
            self._step = ReasoningSplitter._in_header
            return position if self._leading else start
        self._cross(tag[0])
        return tag.end()

    def _in_mode(self, text: str, position: int, out: list[_Delta]) -> int:
        """Pass on text up to the next tag."""
        tag = self._mode.tags.pattern.search(text, position)
        if tag is None:
            end = self._mode.tags.hold(text, position)
            self._emit(text[position:end], out)
            self._held = text[end:]
            return -1
        if self._stays_text(tag[0], text, tag.start()):
            self._emit(text[position : tag.end()], out)
            return tag.end()
        self._emit(text[position : tag.start()], out)
        if tag[0] in _HEADERS or tag[0] in _LATE_HEADERS:
            self._step = ReasoningSplitter._in_header
            return tag.start()
        if self._mode is _TEXT_UNSURE:
            self._lone()
        self._cross(tag[0])
        return tag.end()

    def _in_header(self, text: str, position: int, out: list[_Delta]) -> int:
        """Take a harmony header, from its first tag to ``<|message|>``."""
        reach = position + _HEADER_LIMIT + len(_MESSAGE)
        end = text.find(_MESSAGE, position, reach)
        if end < 0 and len(text) < reach:
            self._held = text[position:]
            return -1
        if end < 0:  # no header after all
            self._emit(text[position], out)
            return self._enter(self._mode, position + 1)
        header = text[position:end]
        if self._mode is _TEXT_UNSURE:
            self._lone()
        self._default = _HARMONY_TEXT
        to_tool = " to=" in header
        if to_tool:
            self.note = self.note or _TOOL_NOTE
        thinks = to_tool or header.rpartition("<|channel|>")[2].startswith("analysis")
        self._fresh = thinks
        return self._enter(_HARMONY_REASONING if thinks else _HARMONY_TEXT, end + len(_MESSAGE))

    def _enter(self, mode: _Mode, position: int) -> int:
        self._mode, self._step, self._leading = mode, ReasoningSplitter._in_mode, False
        return position

    def _cross(self, tag: str) -> None:
        """Go on behind a tag that opens or closes reasoning."""
        if tag in _REASONING:
            self._fresh = True
            self._enter(_REASONING[tag], 0)
        elif tag.startswith(f"{_MARKER}START"):
            self._fresh = True
            self._enter(_MARKED_REASONING, 0)
        else:
            self._default = _TEXT_UNSURE if self._default is _ANY_REASONING else self._default
            self._mode, self._step = self._default, ReasoningSplitter._at_border
            self._leading = self._fresh = False

    def _lone(self) -> None:
        self.note = _LONE_NOTE
        self._default = _TEXT

    def _stays_text(self, tag: str, text: str, start: int) -> bool:
        """Whether the answer only mentions the tag. Once it mentions an opening one, it may mention any."""
        if self._mode is not _TEXT_UNSURE or tag.startswith(_MARKER):
            return False
        if tag in _PAIRS:
            self._default = self._mode = _TEXT
            return True
        before = text[start - 1] if start else self._last[-1:]
        return before in _QUOTES

    def _emit(self, text: str, out: list[_Delta]) -> None:
        if self._fresh:
            text = text.lstrip()
        if text:
            self._fresh = False
            out.append(self._mode.make(text))
