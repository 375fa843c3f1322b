"""What ComfyUI loads: our nodes, and what has to be in place before its server starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from . import _host, replacing
from .chat_node import LMBridgeChat
from .models_node import LMBridgeModels
from .options_node import LMBridgeOptions
from .queueing import on_prompt
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
        other = _other_copy()
        if other is not None:
            raise RuntimeError(f"LM Bridge is in custom_nodes twice: remove one, or {other}")
        add_routes()
        _host.add_middleware(free_with_comfyui)
        _host.add_prompt_handler(on_prompt)
        _host.on_startup(service.prepare_with_server)
        await replacing.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return our nodes."""
        return [LMBridgeChat, LMBridgeOptions, LMBridgeModels]


def _other_copy() -> str | None:
    """Return the folder of another copy of this pack that is loaded already."""
    end = ".comfy_nodes.extension"
    names = (name.removesuffix(end) for name in sys.modules if name.endswith(end) and name != __name__)
    return next(names, None)
