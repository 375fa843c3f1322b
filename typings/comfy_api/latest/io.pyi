from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar

class Input:
    id: str

class Output:
    id: str

class ControlAfterGenerate(str, Enum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"

class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"

class HiddenHolder:
    unique_id: str | None
    prompt: Any
    extra_pnginfo: Any
    dynprompt: Any

class NodeOutput:
    args: tuple[Any, ...]
    ui: Any
    def __init__(self, *args: Any, ui: Mapping[str, Sequence[Any]] | None = None) -> None: ...

class Schema:
    node_id: str
    inputs: list[Input]
    outputs: list[Output]
    def __init__(
        self,
        node_id: str,
        *,
        display_name: str | None = None,
        category: str = "sd",
        inputs: list[Input] = ...,
        outputs: list[Output] = ...,
        hidden: list[Hidden] = ...,
        description: str = "",
        search_aliases: list[str] = ...,
        is_output_node: bool = False,
        not_idempotent: bool = False,
    ) -> None: ...

class ComfyNode:
    hidden: ClassVar[HiddenHolder]

class NodeReplace:
    def __init__(
        self,
        new_node_id: str,
        old_node_id: str,
        old_widget_ids: list[str] | None = None,
        input_mapping: list[dict[str, Any]] | None = None,
        output_mapping: list[dict[str, int]] | None = None,
    ) -> None: ...

class _Type:
    @staticmethod
    def Input(id: str, **options: Any) -> Input: ...
    @staticmethod
    def Output(id: str | None = None, **options: Any) -> Output: ...

class String(_Type): ...
class Int(_Type): ...
class Float(_Type): ...
class Boolean(_Type): ...
class Combo(_Type): ...
class Image(_Type): ...
class AnyType(_Type): ...

def Custom(io_type: str) -> type[_Type]: ...
