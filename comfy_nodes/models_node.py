"""LM Bridge Models: list, load and unload."""

from __future__ import annotations

from typing import Any, Final

from . import choices
from ._host import io
from .schemas import connection_input, model_input

__all__ = ["LMBridgeModels"]

_LIST: Final = "list"
_LOAD: Final = "load"
_UNLOAD: Final = "unload"


class LMBridgeModels(io.ComfyNode):
    """The models node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="LMBridge_Models",
            display_name="LM Bridge Models",
            category="LM Bridge",
            description="Lists the models of a connection, loads one with its settings, or unloads one.",
            search_aliases=["llm models", "load model", "unload model", "free vram", "lm studio models"],
            is_output_node=True,
            not_idempotent=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo, io.Hidden.dynprompt],
            inputs=_inputs(),
            outputs=[
                io.String.Output("status", display_name="status", tooltip="What was done, and every model."),
                io.String.Output(
                    "models",
                    display_name="models",
                    is_output_list=True,
                    tooltip="The models' names, as a list.",
                ),
                io.AnyType.Output("passed", display_name="after", tooltip="What came in by 'after'."),
            ],
        )

    @classmethod
    def validate_inputs(cls, connection: str | None, model: str | None) -> bool:
        """Take any value here: lists differ from machine to machine. What is wrong fails the node."""
        del connection, model
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """Run each time: the server's state is no input."""
        return float("nan")

    @classmethod
    async def execute(
        cls,
        *,
        action: str,
        connection: str,
        model: str = choices.AUTOMATIC,
        context_length: int = 0,
        ttl: int = -1,
        config: str = "",
        after: Any = None,
    ) -> io.NodeOutput:
        """List, load or unload."""
        from .managing import Order, carry_out  # noqa: PLC0415 - imports the core
        from .screens import screen_of  # noqa: PLC0415

        order = Order(action, connection, model, context_length or None, None if ttl < 0 else ttl, config)
        status, names = await carry_out(order, screen_of(cls.hidden))
        shown = {"text": status, "reasoning": "", "model": model, "connection": connection, "index": 0}
        return io.NodeOutput(status, names, after, ui={"lmbridge": [shown]})


def _inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "action",
            options=[_LIST, _LOAD, _UNLOAD],
            default=_LIST,
            tooltip="What to do. 'list' only tells; 'unload' waits until the server confirms.",
        ),
        connection_input(),
        model_input(),
        io.Int.Input(
            "context_length",
            default=0,
            min=0,
            max=16_777_216,
            optional=True,
            tooltip="Tokens of context to load with. 0: as the server does it.",
        ),
        io.Int.Input(
            "ttl",
            default=-1,
            min=-1,
            max=31_536_000,
            optional=True,
            tooltip="Seconds of idleness after which the server may unload it. -1: as the server does it.",
        ),
        io.String.Input(
            "config",
            default="",
            multiline=True,
            dynamic_prompts=False,
            optional=True,
            tooltip="Further load settings in the provider's own names, as a JSON object.",
        ),
        io.AnyType.Input(
            "after", optional=True, tooltip="Anything: the node runs once this is there, and passes it on."
        ),
    ]
