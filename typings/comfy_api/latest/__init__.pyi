from typing import Any

from . import io as io

class ComfyExtension:
    async def on_load(self) -> None: ...
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...

class _Execution:
    async def set_progress(
        self, value: float, max_value: float, node_id: str | None = None, preview_image: Any = None
    ) -> None: ...

class _NodeReplacement:
    async def register(self, node_replace: io.NodeReplace) -> None: ...

class ComfyAPI:
    execution: _Execution
    node_replacement: _NodeReplacement
