"""What the nodes use of ComfyUI, reduced to what decides about them."""

import contextvars
import types
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class ControlAfterGenerate(StrEnum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(StrEnum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


class HiddenHolder:
    def __init__(self, **values: Any) -> None:
        for member in Hidden:
            setattr(self, member.name, values.get(member.name))


_RENAMED = {"dynamic_prompts": "dynamicPrompts", "force_input": "forceInput"}
_ALLOWED = {
    "STRING": {"default", "multiline", "placeholder", "dynamic_prompts", "socketless", "force_input"},
    "INT": {"default", "min", "max", "step", "control_after_generate", "socketless", "force_input"},
    "FLOAT": {"default", "min", "max", "step", "round", "socketless", "force_input"},
    "BOOLEAN": {"default", "label_on", "label_off", "socketless", "force_input"},
    "COMBO": {"default", "options", "control_after_generate", "socketless"},
}
_COMMON = {"display_name", "optional", "tooltip", "lazy", "advanced"}


class Input:
    def __init__(self, io_type: str, id: str, **options: Any) -> None:
        unknown = set(options) - _COMMON - _ALLOWED.get(io_type, set())
        if unknown:
            raise TypeError(f"{io_type}.Input has no {sorted(unknown)}")
        self.io_type, self.id, self.options = io_type, id, options
        self.optional = bool(options.get("optional"))

    def as_v1(self) -> tuple[str, dict[str, Any]]:
        extra: dict[str, Any] = {}
        if self.io_type == "COMBO":
            extra["multiselect"] = False
        if self.io_type == "STRING":
            extra["multiline"] = False
        told = {_RENAMED.get(name, name): value for name, value in self.options.items() if name != "optional"}
        return self.io_type, extra | {name: value for name, value in told.items() if value is not None}


class Output:
    def __init__(
        self,
        io_type: str,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.io_type, self.id, self.display_name = io_type, id, display_name
        self.tooltip, self.is_output_list = tooltip, is_output_list


def _type(io_type: str) -> type:
    class Type:
        @staticmethod
        def Input(id: str, **options: Any) -> Input:
            return Input(io_type, id, **options)

        @staticmethod
        def Output(id: str | None = None, **options: Any) -> Output:
            return Output(io_type, id, **options)

    return Type


class Schema:
    def __init__(
        self,
        node_id: str,
        *,
        display_name: str | None = None,
        category: str = "sd",
        inputs: list[Input] | None = None,
        outputs: list[Output] | None = None,
        hidden: list[Hidden] | None = None,
        description: str = "",
        search_aliases: list[str] | None = None,
        is_output_node: bool = False,
        not_idempotent: bool = False,
    ) -> None:
        self.node_id, self.display_name, self.category = node_id, display_name, category
        self.inputs, self.outputs, self.hidden = inputs or [], outputs or [], hidden or []
        self.description, self.search_aliases = description, search_aliases or []
        self.is_output_node, self.not_idempotent = is_output_node, not_idempotent
        for ids in ([one.id for one in self.inputs], [one.id for one in self.outputs]):
            if len(set(ids)) != len(ids):
                raise ValueError("ids must be unique")

    def v1_input(self) -> dict[str, Any]:
        """Return the inputs as ``/object_info`` has them."""
        told: dict[str, Any] = {"required": {}}
        for one in self.inputs:
            told.setdefault("optional" if one.optional else "required", {})[one.id] = one.as_v1()
        return told


class NodeOutput:
    def __init__(self, *args: Any, ui: Mapping[str, Any] | None = None) -> None:
        self.args, self.ui = args, ui


class _Locked(type):
    """ComfyUI runs nodes on a locked copy of their class."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"Cannot modify class attribute {name!r}")


class ComfyNode:
    hidden = HiddenHolder()

    @classmethod
    def prepared(cls, hidden: HiddenHolder) -> type["ComfyNode"]:
        return _Locked(cls.__name__, (cls,), {"hidden": hidden})


class NodeReplace:
    def __init__(
        self,
        new_node_id: str,
        old_node_id: str,
        old_widget_ids: list[str] | None = None,
        input_mapping: list[dict[str, Any]] | None = None,
        output_mapping: list[dict[str, Any]] | None = None,
    ) -> None:
        self.new_node_id, self.old_node_id, self.old_widget_ids = new_node_id, old_node_id, old_widget_ids
        self.input_mapping, self.output_mapping = input_mapping, output_mapping


class ComfyExtension:
    async def on_load(self) -> None: ...


class InterruptProcessingException(BaseException): ...


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str
    list_index: int | None


class RouteDef(NamedTuple):
    method: str
    path: str
    handler: Any


class Routes:
    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Any] = {}

    def __iter__(self) -> Iterator[RouteDef]:
        return iter([RouteDef(*key, handler) for key, handler in self.handlers.items()])

    def route(self, method: str, path: str) -> Callable[[Any], Any]:
        def register(handler: Any) -> Any:
            self.handlers[method, path] = handler
            return handler

        return register


class DynPrompt:
    def __init__(self, displayed: Mapping[str, str]) -> None:
        self._displayed = displayed

    def get_display_node_id(self, node: str) -> str:
        return self._displayed.get(node, node)


class Double:
    """The whole of it.

    Attributes:
        sent: events that were sent: name, data, client.
        texts: texts that ComfyUI's own display was given.
        bars: positions of progress bars: node, value, maximum.
        interrupt: the cancel flag.
        running: ids of the prompts that run.
        freed: how often ComfyUI's models were unloaded.
        client: the page that queued the running prompt.
        nodes: ids of the nodes that other packs provide.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, str]] = []
        self.texts: list[str] = []
        self.bars: list[tuple[str, float, float]] = []
        self.replacements: list[NodeReplace] = []
        self.interrupt = False
        self.running: list[str] = []
        self.freed = 0
        self.client: str | None = "page"
        self.nodes: dict[str, Any] = {}
        self.private: Any = None
        self.prompt_handlers: list[Any] = []
        self.routes = Routes()
        self.app = types.SimpleNamespace(middlewares=[], on_startup=[])
        self.context: contextvars.ContextVar[ExecutionContext | None]
        self.context = contextvars.ContextVar("context", default=None)

    def modules(self) -> dict[str, types.ModuleType]:
        """Return the modules to put into ``sys.modules``."""
        io = types.ModuleType("comfy_api.latest.io")
        kinds = {"String": "STRING", "Int": "INT", "Float": "FLOAT", "Boolean": "BOOLEAN", "Combo": "COMBO"}
        for name, io_type in {**kinds, "Image": "IMAGE", "AnyType": "*"}.items():
            setattr(io, name, _type(io_type))
        io.Custom = _type
        for item in (ControlAfterGenerate, Hidden, Input, Output, Schema, NodeOutput, ComfyNode, NodeReplace):
            setattr(io, item.__name__, item)
        return {
            "comfy_api": types.ModuleType("comfy_api"),
            "comfy_api.latest": _module(
                "comfy_api.latest", io=io, ComfyExtension=ComfyExtension, ComfyAPI=self._api
            ),
            "comfy": _module("comfy", model_management=self._memory()),
            "comfy.model_management": self._memory(),
            "comfy_execution": types.ModuleType("comfy_execution"),
            "comfy_execution.utils": _module("comfy_execution.utils", get_executing_context=self.context.get),
            "server": _module("server", PromptServer=types.SimpleNamespace(instance=self._server())),
            "nodes": _module("nodes", NODE_CLASS_MAPPINGS=self.nodes),
            "folder_paths": _module("folder_paths", get_system_user_directory=lambda _: str(self.private)),
        }

    def _api(self) -> Any:
        async def set_progress(value: float, max_value: float, node_id: str) -> None:
            self.bars.append((node_id, value, max_value))

        async def register(replace: NodeReplace) -> None:
            self.replacements.append(replace)

        return types.SimpleNamespace(
            execution=types.SimpleNamespace(set_progress=set_progress),
            node_replacement=types.SimpleNamespace(register=register),
        )

    def _memory(self) -> types.ModuleType:
        def unload_all_models() -> None:
            self.freed += 1

        return _module(
            "comfy.model_management",
            processing_interrupted=lambda: self.interrupt,
            InterruptProcessingException=InterruptProcessingException,
            unload_all_models=unload_all_models,
            soft_empty_cache=lambda force=False: None,
        )

    def _server(self) -> Any:
        double = self

        class Server:
            routes = double.routes
            app = double.app
            prompt_queue = types.SimpleNamespace(
                get_current_queue_volatile=lambda: ([(0, name, {}, {}, []) for name in double.running], [])
            )

            @property
            def client_id(self) -> str | None:
                return double.client

            def send_sync(self, event: str, data: Any, sid: str) -> None:
                double.sent.append((event, data, sid))

            def send_progress_text(self, text: str, node: str, sid: str) -> None:
                double.texts.append(text)

            def add_on_prompt_handler(self, handler: Any) -> None:
                double.prompt_handlers.append(handler)

        return Server()

    async def run(
        self,
        node: type[ComfyNode],
        *,
        name: str = "1",
        prompt_id: str = "p",
        item: int | None = None,
        graph: Any = None,
        metadata: Any = None,
        shown: Mapping[str, str] | None = None,
        **inputs: Any,
    ) -> NodeOutput:
        """Run a node as ComfyUI does: on a locked copy, with its hidden inputs and its context."""
        hidden = HiddenHolder(
            unique_id=name, prompt=graph, extra_pnginfo=metadata, dynprompt=DynPrompt(shown or {})
        )
        self.context.set(ExecutionContext(prompt_id, name, item))
        self.running.append(prompt_id)
        try:
            found = node.prepared(hidden).execute(**inputs)
            return found if isinstance(found, NodeOutput) else await found
        finally:
            self.running.remove(prompt_id)

    def updates(self, node: str = "1") -> list[Any]:
        """Return the updates that were sent for a node."""
        return [data for event, data, _ in self.sent if event == "lmbridge.update" and data["node"] == node]


def _module(name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    return module
