"""LM Bridge Chat: text and pictures in, an answer out, streamed onto the node."""

from __future__ import annotations

from typing import Any

from . import choices, fallbacks
from ._host import io
from .schemas import CONVERSATION, OPTIONS, connection_input, model_input, preset_input

__all__ = ["LMBridgeChat"]

#: JavaScript's largest whole number; the frontend rounds larger ones.
_LARGEST_SEED = 2**53 - 1


class LMBridgeChat(io.ComfyNode):
    """The chat node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node. The order of the widgets is the order in saved workflows."""
        return io.Schema(
            node_id="LMBridge_Chat",
            display_name="LM Bridge Chat",
            category="LM Bridge",
            description="Asks a language model, with or without pictures. The answer appears on the node "
            "while it is written.",
            search_aliases=[
                "llm",
                "vlm",
                "lm studio",
                "openai",
                "caption",
                "describe image",
                "prompt enhancer",
            ],
            is_output_node=True,
            not_idempotent=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.dynprompt],
            inputs=_inputs(),
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, connection: str | None, model: str | None, preset: str | None) -> bool:
        """Take any value here: lists differ from machine to machine. What is wrong fails the node."""
        del connection, model, preset
        return True

    @classmethod
    def fingerprint_inputs(cls, rerun: str = choices.REUSE, **_: Any) -> Any:
        """Return what decides, beside the inputs, whether the node runs again."""
        if rerun == choices.ALWAYS_NEW:
            return float("nan")
        return f"{rerun}, {fallbacks.count(cls.hidden.unique_id)} fallbacks"

    @classmethod
    def check_lazy_status(cls, **inputs: Any) -> list[str]:
        """Ask for the image if it is connected and the model is going to be asked."""
        kept = inputs.get("rerun") == choices.KEEP_ANSWER and bool(
            str(inputs.get("kept_answer") or "").strip()
        )
        return ["image"] if not kept and "image" in inputs and inputs["image"] is None else []

    @classmethod
    async def execute(
        cls,
        *,
        connection: str,
        model: str,
        preset: str,
        prompt: str,
        system_prompt: str = "",
        seed: int = 0,
        temperature: float = -1.0,
        max_tokens: int = -1,
        reasoning: str = choices.UNSET_REASONING,
        image_mode: str = choices.ALL_IMAGES,
        on_error: str = choices.FAIL,
        fallback_text: str = "",
        rerun: str = choices.REUSE,
        before_run: str = choices.LEAVE,
        after_run: str = choices.KEEP_MODEL,
        save_answer: bool = False,
        kept_answer: str = "",
        image: Any = None,
        options: Any = None,
    ) -> io.NodeOutput:
        """Ask the model."""
        from .answering import answer  # noqa: PLC0415 - imports the core, which ComfyUI's start does not need
        from .requests import Widgets  # noqa: PLC0415
        from .screens import screen_of  # noqa: PLC0415

        widgets = Widgets(
            connection=connection,
            model=model,
            preset=preset,
            prompt=prompt,
            system_prompt=system_prompt,
            seed=seed,
            temperature=temperature,
            max_tokens=max_tokens,
            reasoning=reasoning,
            image_mode=image_mode,
            on_error=on_error,
            fallback_text=fallback_text,
            rerun=rerun,
            before_run=before_run,
            after_run=after_run,
            save_answer=save_answer,
            kept_answer=kept_answer,
            image=image,
            options=options,
        )
        hidden = cls.hidden
        answers = await answer(widgets, screen_of(hidden), hidden.prompt, hidden.extra_pnginfo)
        return io.NodeOutput(
            [item.result.text for item in answers],
            [item.result.reasoning for item in answers],
            [item.conversation for item in answers],
            [item.stats_text for item in answers],
            ui={"lmbridge": [item.for_page() for item in answers]},
        )


def _inputs() -> list[io.Input]:
    return [
        connection_input(),
        model_input(),
        preset_input(),
        io.String.Input("prompt", multiline=True, dynamic_prompts=False, default="", tooltip="What to ask."),
        io.String.Input(
            "system_prompt",
            multiline=True,
            dynamic_prompts=False,
            default="",
            optional=True,
            tooltip="Instructions that stand above the prompt.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=_LARGEST_SEED,
            control_after_generate=io.ControlAfterGenerate.fixed,
            optional=True,
            tooltip="For a repeatable answer. Where a server has no seed, the stats say so.",
        ),
        io.Float.Input(
            "temperature",
            default=-1.0,
            min=-1.0,
            max=2.0,
            step=0.05,
            optional=True,
            tooltip="0 is the most predictable. -1: as the preset says, else the server.",
        ),
        io.Int.Input(
            "max_tokens",
            default=-1,
            min=-1,
            max=1_048_576,
            optional=True,
            tooltip="Most tokens to write, with thinking. -1: no limit. 0: as preset or server say.",
        ),
        io.Combo.Input(
            "reasoning",
            options=list(choices.REASONING),
            default=choices.UNSET_REASONING,
            optional=True,
            tooltip="How much the model may think. A level that it does not have becomes the nearest one.",
        ),
        io.Combo.Input(
            "image_mode",
            options=list(choices.IMAGE_MODES),
            default=choices.ALL_IMAGES,
            optional=True,
            advanced=True,
            tooltip="What to do with a batch of pictures. One call for each gives a list of answers.",
        ),
        io.Combo.Input(
            "on_error",
            options=list(choices.ON_ERROR),
            default=choices.FAIL,
            optional=True,
            advanced=True,
            tooltip="What to do when the model cannot be asked. An error text is never given as the answer.",
        ),
        io.String.Input(
            "fallback_text",
            default="",
            optional=True,
            advanced=True,
            dynamic_prompts=False,
            tooltip="What to give instead of an answer, with 'use fallback text'.",
        ),
        io.Combo.Input(
            "rerun",
            options=list(choices.RERUN),
            default=choices.REUSE,
            optional=True,
            tooltip="When to ask again: if an input changes, each time, or never once an answer is kept.",
        ),
        io.Combo.Input(
            "before_run",
            options=list(choices.BEFORE_RUN),
            default=choices.LEAVE,
            optional=True,
            advanced=True,
            tooltip="Whether ComfyUI's own models leave the graphics card first.",
        ),
        io.Combo.Input(
            "after_run",
            options=list(choices.AFTER_RUN),
            default=choices.KEEP_MODEL,
            optional=True,
            tooltip="Whether the language model leaves the graphics card after the last node that uses it.",
        ),
        io.Boolean.Input(
            "save_answer",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Write answer, model, settings and stats into saved pictures; never thinking or keys.",
        ),
        io.String.Input(
            "kept_answer",
            default="",
            optional=True,
            socketless=True,
            dynamic_prompts=False,
            tooltip="The answer that 'Keep this answer' stored.",
        ),
        io.Image.Input(
            "image",
            optional=True,
            lazy=True,
            tooltip="A picture or a batch, for models that read pictures.",
        ),
        io.Custom(OPTIONS).Input("options", optional=True, tooltip="From LM Bridge Options."),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.String.Output("text", display_name="text", is_output_list=True, tooltip="The answer."),
        io.String.Output(
            "reasoning", display_name="reasoning", is_output_list=True, tooltip="The model's thinking."
        ),
        io.Custom(CONVERSATION).Output(
            "conversation",
            display_name="conversation",
            is_output_list=True,
            tooltip="All turns, to go on from.",
        ),
        io.String.Output(
            "stats",
            display_name="stats",
            is_output_list=True,
            tooltip="Model, tokens, speed and notes, as JSON.",
        ),
    ]
