"""The servers of the soak test, in a process of their own: what they remember is not the client's.

Prints one line of JSON, the addresses by name, and ends with its standard input, which is the test's.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

from lmbridge.emulator import Emulator, Settings
from lmbridge.testing import Fault, FaultServer, Reply

MODELS = {"models": [{"type": "llm", "key": "m"}], "object": "list", "data": [{"id": "m", "object": "model"}]}


def _chat() -> Reply:
    deltas = [{"choices": [{"index": 0, "delta": {"content": f"word{number} "}}]} for number in range(20)]
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return Reply.sse(*deltas, finish, "[DONE]")


def _native() -> Reply:
    words = [f"word{number} " for number in range(20)]
    deltas = [("message.delta", {"type": "message.delta", "content": word}) for word in words]
    result = {"model_instance_id": "m", "output": [], "stats": {}}
    return Reply.sse(*deltas, ("chat.end", {"type": "chat.end", "result": result}))


#: What goes wrong at each port.
FAULTS: dict[str, Fault | None] = {
    "well": None,
    "dropped": Fault.drop(b"word7"),
    "reset": Fault.drop(b"word7", reset=True),
    "short": Fault.end(b"word12", route="POST *"),
    "garbled": Fault.garbage(b"\xff\xfe\n\ndata: {\n\n", b"word3", route="POST *"),
    "silent": Fault.hang("request", route="POST *"),
    "stuck": Fault.hang(b"word5", route="POST *"),
    "deaf": Fault.drop("accept", route="POST *"),
    "headless": Fault.drop("head", route="POST *"),
}
REFUSALS: dict[str, Callable[[], Reply]] = {
    "broken": lambda: Reply.json({"error": {"message": "CUDA error"}}, status=500),
    "busy": lambda: Reply.json({"error": "slow down"}, status=429, headers={"Retry-After": "0"}),
    "stranger": lambda: Reply.text("<html><title>It works!</title></html>"),
    "locked": lambda: Reply.json({"error": {"message": "Incorrect API key"}}, status=401),
}


async def _main() -> None:
    async with AsyncExitStack() as stack:
        settings = Settings.instant(loaded=("ibm/granite-4-micro",), parallel=16)
        emulator = await stack.enter_async_context(Emulator(settings))
        urls, servers = {"emulator": emulator.url}, []
        for name in (*FAULTS, *REFUSALS):
            server = await stack.enter_async_context(FaultServer())
            server.on("GET *", Reply.json(MODELS))
            refusal = REFUSALS.get(name)
            server.on("POST /v1/chat/completions", refusal() if refusal else _chat())
            server.on("POST /api/v1/chat", refusal() if refusal else _native())
            server.fail(FAULTS.get(name))
            urls[name] = server.url
            servers.append(server)
        for name, fault in (("relayed", None), ("torn", Fault.drop(b"word5", route="GET /llm"))):
            server = await stack.enter_async_context(FaultServer(upstream=emulator.url))
            server.fail(fault)
            urls[name] = server.url
            servers.append(server)
        print(json.dumps(urls), flush=True)  # noqa: T201 - that is how the test learns them
        ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        while not (await asyncio.wait({ended}, timeout=1))[0]:
            emulator.forget()
            for server in servers:
                server.forget()


if __name__ == "__main__":
    asyncio.run(_main())
