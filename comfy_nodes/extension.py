"""What ComfyUI loads: our nodes, and what has to be in place before its server starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _host
from .chat_node import LMBridgeChat
from .models_node import LMBridgeModels
from .options_node import LMBridgeOptions
from .routes import add_routes, free_with_comfyui
from .service import service

if TYPE_CHECKING:
    from ._host import io

__all__ = ["LMBridgeExtension"]


class LMBridgeExtension(_host.ComfyExtension):
    """The extension."""

    async def on_load(self) -> None:
        """Hook into the server.

        Raises:
            RuntimeError: another copy of the pack has done so; ComfyUI logs the sentence.
        """
        first = _host.claim(str(__package__))
        if first != __package__:
            folder = first.rpartition(".")[0]
            raise RuntimeError(f"LM Bridge is in custom_nodes twice: remove this one, or {folder}")
        add_routes()
        _host.add_middleware(free_with_comfyui)
        _host.add_prompt_handler(_on_prompt)
        _host.on_startup(_start)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return our nodes."""
        return [LMBridgeChat, LMBridgeOptions, LMBridgeModels]


async def _start(app: object) -> None:
    """Do what can wait until the server starts."""
    from .replacing import register  # noqa: PLC0415 - see above

    del app
    service.prepare_in_background()
    await register()


def _on_prompt(data: dict[str, Any]) -> dict[str, Any]:
    from .queueing import on_prompt  # noqa: PLC0415 - not needed before the first prompt

    return on_prompt(data)
