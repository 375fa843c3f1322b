"""Thousands of calls with random faults and cancels leave nothing behind: no task, socket, thread or memory.

``SOAK_REQUESTS`` (300; the tox environment ``soak`` says 10,000) is how many, ``SOAK_SEED`` which.
"""

import asyncio
import gc
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmbridge import Bridge, LMBridgeError, Message, Request, Timeouts
from lmbridge.plugins import Plugins
from lmbridge.settings import Settings
from lmbridge_lmstudio_rest import LMStudioREST
from lmbridge_lmstudio_sdk import LMStudioSDK
from lmbridge_openai import OpenAICompat

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

PROVIDERS = {"openai-compat": OpenAICompat, "lmstudio-rest": LMStudioREST, "lmstudio-sdk": LMStudioSDK}
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "300"))
SEED = int(os.environ.get("SOAK_SEED", "20261121"))
AT_ONCE = 12
#: How many of a hundred calls go through LM Studio's SDK, which opens five sockets after each that breaks.
SDK_SHARE = 4
MIB = 1024 * 1024
SAY = "[[say=" + " ".join(f"word{number}" for number in range(20)) + "]]"


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Addresses of servers in another process, by name; it ends when this process does, however that ends."""
    script = Path(__file__).with_name("servers.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())
        child.stdin.close()
        assert child.wait(30) == 0


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each of the SDK's connections the 30 ms that httpx needs to read all certificates."""
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda *_, **__: empty, raising=False)


@pytest.fixture
def settings(servers: dict[str, str]) -> Settings:
    """Every provider at every server that it may meet: ``openai-compat-dropped``."""
    connections: dict[str, dict[str, Any]] = {}
    for name, url in servers.items():
        for provider in ("openai-compat", "lmstudio-rest"):
            if name != "torn":
                connections[f"{provider}-{name}"] = {"provider": provider, "base_url": url}
        if name in {"emulator", "relayed", "torn", "stranger"}:
            connections[f"lmstudio-sdk-{name}"] = {"provider": "lmstudio-sdk", "base_url": url}
    return Settings.load(
        explicit={"connections": connections},
        environ={},
        env_file=None,
        config_file=None,
        providers=PROVIDERS,
    )


class Soak:
    """Calls, drawn by lot."""

    def __init__(self, bridge: Bridge, connections: list[str]) -> None:
        self._bridge = bridge
        self._lot = random.Random(SEED)  # noqa: S311 - it has to be the same each time
        self._sdk = [name for name in connections if name.startswith("lmstudio-sdk-")]
        self._http = [name for name in connections if name not in self._sdk]
        self.outcomes: Counter[str] = Counter()

    async def batch(self, count: int) -> None:
        """Make so many calls, some at once."""
        plans = [self._draw() for _ in range(count)]

        async def work() -> None:
            while plans:
                await self._call(*plans.pop())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    def _draw(self) -> tuple[str, str, int, float]:
        sdk = self._lot.randrange(100) < SDK_SHARE
        connection = self._lot.choice(self._sdk if sdk else self._http)
        how = self._lot.choice(("read", "read", "whole", "leave", "cancel", "raise"))
        return connection, how, self._lot.randrange(15), self._lot.random() * 0.03

    async def _call(self, connection: str, how: str, events: int, seconds: float) -> None:
        """Make one call; whatever it ends with is an answer, a cancellation or an error of ours."""
        model = "ibm/granite-4-micro" if connection.endswith(("emulator", "relayed", "torn")) else "m"
        # The clocks end what hangs; that a slow machine may meet them, too, changes nothing here.
        clocks = Timeouts(connect=5, first_event=0.3, idle=0.3)
        asked = Request(model=model, messages=[Message.user(SAY)], timeouts=clocks)
        if how == "whole":
            task = asyncio.ensure_future(self._bridge.generate(connection, asked))
        else:
            task = asyncio.ensure_future(self._read(connection, asked, how, events))
        if how == "cancel":
            await asyncio.sleep(seconds)
            task.cancel()
        try:
            await task
            self.outcomes["answers"] += 1
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except LookupError:
            self.outcomes["raised"] += 1
        except LMBridgeError as error:
            self.outcomes[type(error).__name__] += 1

    async def _read(self, connection: str, asked: Request, how: str, events: int) -> None:
        async with self._bridge.stream(connection, asked) as stream:
            async for _ in stream:
                events -= 1
                if how == "leave" and events < 0:
                    return
                if how == "raise" and events < 0:
                    raise LookupError


def sockets() -> int:
    """Return how many sockets of this process are open."""
    return sum(isinstance(item, socket.socket) and item.fileno() >= 0 for item in gc.get_objects())


def descriptors() -> int:
    """Return how many files are open, where the system tells."""
    return len(list(Path("/dev/fd").iterdir())) if Path("/dev/fd").exists() else 0


async def _soak(settings: Settings, plugins: Plugins) -> tuple[Counter[str], list[int], set[str]]:
    """Return what came, the traced memory after each part, and the tasks that were left."""
    part = max(100, REQUESTS // 10)
    memory = []
    begun = asyncio.all_tasks()
    async with Bridge(settings=settings, plugins=plugins) as bridge:
        soak = Soak(bridge, [name for name in settings.names() if name not in PROVIDERS])
        for _ in range(max(3, REQUESTS // part)):
            await soak.batch(part)
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
    left = {repr(task) for task in asyncio.all_tasks() - begun}
    return soak.outcomes, memory, left


def test_nothing_is_left_of_thousands_of_calls(settings, make_plugins, caplog):
    caplog.set_level("WARNING")  # what pytest keeps of the log would count as memory
    plugins = make_plugins(PROVIDERS)
    gc.collect()
    before = sockets(), descriptors(), set(threading.enumerate())
    tracemalloc.start(1)
    try:
        with asyncio.Runner(debug=False) as runner:
            outcomes, memory, tasks = runner.run(_soak(settings, plugins))
    finally:
        tracemalloc.stop()
    gc.collect()
    print(f"seed {SEED}: {dict(outcomes)}; KiB after each part: {[size // 1024 for size in memory]}")  # noqa: T201
    assert not tasks
    assert sockets() <= before[0]
    assert descriptors() <= before[1]
    assert not [thread for thread in threading.enumerate() if thread not in before[2]]
    assert memory[-1] - memory[1] < MIB, [size // 1024 for size in memory]
    assert outcomes["answers"] > REQUESTS // 10
    assert "PluginError" not in outcomes
    assert {"ProtocolError", "ServerUnreachable", "ServerError", "TimedOut", "cancelled"} <= set(outcomes)
