"""LM Bridge Options: everything about sampling and loading that the chat node has no widget for."""

from __future__ import annotations

from typing import Final

from . import choices
from ._host import io
from .schemas import OPTIONS

__all__ = ["LMBridgeOptions"]

_PENALTY_UNSET: Final = -3.0


class LMBridgeOptions(io.ComfyNode):
    """The options node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node. Each widget's default means: not sent."""
        return io.Schema(
            node_id="LMBridge_Options",
            display_name="LM Bridge Options",
            category="LM Bridge",
            description="Sampling and load options for LM Bridge Chat. What is left as it is, is not sent.",
            search_aliases=["llm options", "sampling", "top_p", "top_k", "context length", "ttl", "stop"],
            inputs=_inputs(),
            outputs=[
                io.Custom(OPTIONS).Output("options", display_name="options", tooltip="For LM Bridge Chat.")
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        temperature: float = -1.0,
        top_p: float = -1.0,
        top_k: int = -1,
        min_p: float = -1.0,
        max_tokens: int = 0,
        stop: str = "",
        presence_penalty: float = _PENALTY_UNSET,
        frequency_penalty: float = _PENALTY_UNSET,
        repeat_penalty: float = 0.0,
        reasoning: str = choices.UNSET_REASONING,
        context_length: int = 0,
        ttl: int = -1,
        draft_model: str = "",
        load: str = "",
        extra: str = "",
    ) -> io.NodeOutput:
        """Return the options."""
        from .option_values import make_options  # noqa: PLC0415 - imports the core

        return io.NodeOutput(
            make_options(
                temperature=None if temperature < 0 else temperature,
                top_p=None if top_p < 0 else top_p,
                top_k=None if top_k < 0 else top_k,
                min_p=None if min_p < 0 else min_p,
                max_tokens=max_tokens or None,
                stop=[line for line in stop.splitlines() if line] or None,
                presence_penalty=None if presence_penalty == _PENALTY_UNSET else presence_penalty,
                frequency_penalty=None if frequency_penalty == _PENALTY_UNSET else frequency_penalty,
                repeat_penalty=repeat_penalty or None,
                reasoning=None if reasoning == choices.UNSET_REASONING else reasoning,
                context_length=context_length or None,
                ttl=None if ttl < 0 else float(ttl),
                draft_model=draft_model.strip() or None,
                load=load,
                extra=extra,
            )
        )


def _number(name: str, unset: float, high: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name,
        default=unset,
        min=unset,
        max=high,
        step=0.05,
        optional=True,
        tooltip=f"{tooltip} {unset:g}: not sent.",
    )


def _whole(name: str, unset: int, high: int, tooltip: str) -> io.Input:
    return io.Int.Input(
        name, default=unset, min=unset, max=high, optional=True, tooltip=f"{tooltip} {unset}: not sent."
    )


def _text(name: str, tooltip: str, *, multiline: bool = False) -> io.Input:
    return io.String.Input(
        name,
        default="",
        multiline=multiline,
        dynamic_prompts=False,
        optional=True,
        tooltip=f"{tooltip} Empty: not sent.",
    )


def _inputs() -> list[io.Input]:
    return [
        _number("temperature", -1.0, 2.0, "How freely to choose words; the chat node's own wins."),
        _number("top_p", -1.0, 1.0, "Choose among the likeliest words that together have this probability."),
        _whole("top_k", -1, 1_000, "Choose among this many of the likeliest words."),
        _number("min_p", -1.0, 1.0, "Leave out words that are less likely than this share of the likeliest."),
        _whole("max_tokens", 0, 1_048_576, "Most tokens to write; counts where the chat node has no limit."),
        _text("stop", "Texts that end the answer, one on each line.", multiline=True),
        _number("presence_penalty", _PENALTY_UNSET, 2.0, "Against words that occurred already, -2 to 2."),
        _number("frequency_penalty", _PENALTY_UNSET, 2.0, "Against words that occurred often, -2 to 2."),
        _number("repeat_penalty", 0.0, 4.0, "Against repetition; 1 is none."),
        io.Combo.Input(
            "reasoning",
            options=list(choices.REASONING),
            default=choices.UNSET_REASONING,
            optional=True,
            tooltip="How much the model may think; the chat node's own wins. default: not sent.",
        ),
        _whole("context_length", 0, 16_777_216, "Tokens of context, for a load that this request causes."),
        _whole("ttl", -1, 31_536_000, "Seconds of idleness after which a model loaded by this may go."),
        _text("draft_model", "A smaller model for speculative decoding."),
        _text("load", "Further load settings in the provider's own names, as a JSON object.", multiline=True),
        _text("extra", "Further settings in the provider's own names, as a JSON object.", multiline=True),
    ]
