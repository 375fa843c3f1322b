"""Nodes that tests of the real ComfyUI need: what blocks, what counts, what makes lists and pictures."""

import threading
import time

import torch
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

COUNTS: dict[str, int] = {}


class Block(io.ComfyNode):
    """Blocks the prompt's event loop as a sampler does, until a file appears or the user cancels."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Block",
            category="test",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Float.Input("seconds", default=1.0), io.AnyType.Input("after", optional=True)],
            outputs=[io.AnyType.Output("after")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, seconds, after=None):
        PromptServer.instance.send_sync("test.block", {"began": time.time()}, PromptServer.instance.client_id)
        threading.Event().wait(seconds)
        PromptServer.instance.send_sync("test.block", {"ended": time.time()}, PromptServer.instance.client_id)
        return io.NodeOutput(after)


class Picture(io.ComfyNode):
    """Makes a batch of pictures and counts how often it did."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Picture",
            category="test",
            inputs=[io.Int.Input("count", default=1, min=0), io.String.Input("name", default="picture")],
            outputs=[io.Image.Output("image")],
        )

    @classmethod
    def execute(cls, count, name):
        COUNTS[name] = COUNTS.get(name, 0) + 1
        colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return io.NodeOutput(
            torch.stack([colours[n % 3].expand(48, 64, 3) for n in range(count)])
            if count
            else torch.zeros(0, 8, 8, 3)
        )


class Texts(io.ComfyNode):
    """Makes a list of texts."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Texts",
            category="test",
            inputs=[io.String.Input("lines", multiline=True)],
            outputs=[io.String.Output("text", is_output_list=True)],
        )

    @classmethod
    def execute(cls, lines):
        return io.NodeOutput(lines.splitlines())


class Show(io.ComfyNode):
    """Tells the test what came in."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_Show",
            category="test",
            is_output_node=True,
            is_input_list=True,
            inputs=[io.AnyType.Input("value")],
            outputs=[],
        )

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(ui={"shown": [str(item) for item in value]})


class Extension(ComfyExtension):
    async def on_load(self):
        from aiohttp import web

        @PromptServer.instance.routes.get("/test/counts")
        async def counts(request):
            return web.json_response(COUNTS)

    async def get_node_list(self):
        return [Block, Picture, Texts, Show]


def comfy_entrypoint():
    return Extension()
