"""ComfyUI's entry: this folder, cloned or linked into ``custom_nodes``, is a node pack.

Nothing happens at import, so that tools which meet this file elsewhere (pytest, linters) can import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./web/comfyui"


def comfy_entrypoint() -> Any:
    """Return the extension with our nodes.

    Raises:
        ImportError: lmbridge cannot be imported, or only an older one; ComfyUI logs the sentence.
    """
    from .comfy_nodes.importing import make_importable  # noqa: PLC0415 - ComfyUI is needed from here on

    make_importable(Path(__file__).resolve().parent)
    from .comfy_nodes.extension import LMBridgeExtension  # noqa: PLC0415 - see above

    return LMBridgeExtension()
