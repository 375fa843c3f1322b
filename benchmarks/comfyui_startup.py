"""What the node pack adds to ComfyUI's start, beside importing pluggy and reading entry points there.

Run it with ComfyUI's own interpreter: ``COMFYUI_DIR=… python benchmarks/comfyui_startup.py``. ComfyUI is
imported once; each measurement is made in a forked child, so that all begin in the same state. Needs a
system with ``fork``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 15


def import_comfyui() -> None:
    os.chdir(os.environ["COMFYUI_DIR"])
    sys.path.insert(0, os.environ["COMFYUI_DIR"])
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import execution  # noqa: F401 - what has been imported when custom nodes are loaded
    import nodes  # noqa: F401
    import server
    from comfy_api.latest import ComfyExtension  # noqa: F401

    server.PromptServer(asyncio.new_event_loop())


def ground() -> None:
    """What every design with plugins pays."""
    from importlib.metadata import entry_points

    import pluggy  # noqa: F401

    list(entry_points().select(group="lmbridge.providers"))


def pack() -> None:
    """What ComfyUI does with us before its server starts, without its own reading of ``pyproject.toml``."""
    from importlib.util import module_from_spec, spec_from_file_location

    name = str(ROOT).replace(".", "_x_")
    spec = spec_from_file_location(name, ROOT / "__init__.py")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    extension = module.comfy_entrypoint()

    async def load() -> None:
        await extension.on_load()
        for node in await extension.get_node_list():
            node.GET_SCHEMA()

    asyncio.run(load())


def in_child(work) -> tuple[float, list[str]]:  # noqa: ANN001
    """Return the seconds of CPU that ``work`` takes in a forked child, and what it imported."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        before = set(sys.modules)
        began = time.process_time()
        work()
        took = time.process_time() - began
        os.write(writer, json.dumps([took, sorted(set(sys.modules) - before)]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        took, modules = json.loads(told.read())
    os.wait()
    return took, modules


def main() -> None:
    import_comfyui()
    gc.collect()
    gc.freeze()  # a collection of ComfyUI's own objects must not fall into either by chance
    times: dict[str, list[float]] = {"ground": [], "pack": []}
    modules: list[str] = []
    for _ in range(ROUNDS):
        times["ground"].append(in_child(ground)[0])
        took, modules = in_child(pack)
        times["pack"].append(took)
    ours = [name for name in modules if ".comfy_nodes" in name]
    print(f"pluggy and entry points: {statistics.median(times['ground']) * 1000:.1f} ms")
    print(f"the pack:                {statistics.median(times['pack']) * 1000:.1f} ms")
    ratio = statistics.median(times["pack"]) / statistics.median(times["ground"])
    best = min(times["pack"]) / min(times["ground"])
    print(f"ratio:                   {ratio:.2f} (of the fastest: {best:.2f})")
    print(f"imported besides our {len(ours)} modules: {sorted(set(modules) - set(ours))}")


if __name__ == "__main__":
    main()
