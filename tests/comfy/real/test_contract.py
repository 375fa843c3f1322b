"""The double says what the real ComfyUI says."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Pack = Callable[[str], ModuleType]

NODES = {"LMBridge_Chat": "chat_node", "LMBridge_Options": "options_node", "LMBridge_Models": "models_node"}

_QUESTION = """
import inspect, json, sys
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, ".")
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config
import folder_paths, nodes, execution, server
from comfy import model_management
from comfy_api.latest import ComfyAPI, ComfyExtension, io
from comfy_execution.utils import ExecutionContext, get_executing_context

def parameters(what):
    return sorted(inspect.signature(what).parameters)

types = ("String", "Int", "Float", "Boolean", "Combo")
print("ANSWER" + json.dumps({
    "io": sorted(vars(io)),
    "inputs": {name: parameters(getattr(io, name).Input.__init__) for name in types},
    "output": parameters(io.String.Output.__init__),
    "schema": parameters(io.Schema.__init__),
    "node_output": parameters(io.NodeOutput.__init__),
    "replace": parameters(io.NodeReplace.__init__),
    "hidden": {member.name: member.value for member in io.Hidden},
    "control": [member.value for member in io.ControlAfterGenerate],
    "context": list(ExecutionContext._fields),
    "progress": parameters(ComfyAPI().execution.set_progress),
    "memory": [name for name in dir(model_management)],
    "interrupt_is_base": not issubclass(model_management.InterruptProcessingException, Exception),
    "queue": dir(execution.PromptQueue),
    "server": dir(server.PromptServer),
    "replacement": parameters(ComfyAPI().node_replacement.register),
    "extension": dir(ComfyExtension),
    "folder": hasattr(folder_paths, "get_system_user_directory"),
    "mappings": isinstance(nodes.NODE_CLASS_MAPPINGS, dict),
}))
"""


@pytest.fixture(scope="session")
def told() -> Any:
    """What the real modules have."""
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    asked = subprocess.run(
        [python, "-c", _QUESTION],
        cwd=os.environ["COMFYUI_DIR"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "ANSWER" in asked.stdout, asked.stderr[-3000:]
    return json.loads(asked.stdout.partition("ANSWER")[2].splitlines()[0])


def test_everything_that_the_double_has_is_there(told: Any, double_module: Any) -> None:
    io = double_module.Double().modules()["comfy_api.latest"].io
    assert {name for name in vars(io) if not name.startswith("_")} <= set(told["io"])
    for name, io_type in {"String": "STRING", "Int": "INT", "Float": "FLOAT", "Combo": "COMBO"}.items():
        allowed = double_module._ALLOWED[io_type] | double_module._COMMON
        assert allowed <= set(told["inputs"][name]), name
    for ours, theirs in ((double_module.Schema, "schema"), (double_module.NodeReplace, "replace")):
        assert set(inspect.signature(ours.__init__).parameters) <= set(told[theirs])
    assert {member.name: member.value for member in double_module.Hidden}.items() <= told["hidden"].items()
    assert [member.value for member in double_module.ControlAfterGenerate] == told["control"]
    assert list(double_module.ExecutionContext._fields) == told["context"]


def test_everything_that_the_nodes_use_is_there(told: Any) -> None:
    assert {"value", "max_value", "node_id"} <= set(told["progress"])
    wanted = {
        "processing_interrupted",
        "InterruptProcessingException",
        "unload_all_models",
        "soft_empty_cache",
    }
    assert wanted <= set(told["memory"])
    assert "get_current_queue_volatile" in told["queue"]
    assert {"send_sync", "send_progress_text", "add_on_prompt_handler"} <= set(told["server"])
    assert {"on_load", "get_node_list"} <= set(told["extension"])
    assert told["replacement"] == ["node_replace"]
    assert told["folder"]
    assert told["mappings"]


@pytest.mark.parametrize("node", NODES)
async def test_the_real_schema_is_what_the_double_makes_of_it(
    page: Any, pack: Pack, host: Any, node: str
) -> None:
    real = (await page.get(f"/object_info/{node}"))[node]
    module = pack(NODES[node])
    schema = next(
        value.define_schema() for name, value in vars(module).items() if name == node.replace("_", "")
    )
    ours = json.loads(json.dumps(schema.v1_input()))
    theirs = {kind: dict(inputs) for kind, inputs in real["input"].items() if kind != "hidden"}
    for told in (ours, theirs):
        for inputs in told.values():
            for name in {"connection", "preset"} & set(inputs):
                inputs[name][1].pop("options")
                inputs[name][1].pop("default", None)
    assert ours == theirs
    order = [name for kind in ("required", "optional") for name in real["input_order"].get(kind, [])]
    assert order == [one.id for one in schema.inputs]
    assert real["output_name"] == [one.display_name for one in schema.outputs]
    assert real["output_is_list"] == [one.is_output_list for one in schema.outputs]
    assert real["output_node"] == schema.is_output_node
    assert real["category"] == "LM Bridge"
