"""A real ComfyUI, started once, with our pack as a clone in ``custom_nodes``, against the emulator.

``COMFYUI_DIR`` names a checkout; ``COMFYUI_PYTHON`` the interpreter that has what it needs (by default this
one). Without ``COMFYUI_DIR`` these tests are skipped.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lmbridge.emulator import Settings, ThreadedEmulator

ROOT = Path(__file__).resolve().parents[3]
ENDS = {"execution_success", "execution_error", "execution_interrupted"}
#: Must never be seen in anything that ComfyUI saves, sends or logs.
CANARY = "sk-canary-5f1e0c9d7b3a"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
            if not os.environ.get("COMFYUI_DIR"):
                item.add_marker(pytest.mark.skip(reason="COMFYUI_DIR names no ComfyUI"))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """The nodes' loops are in another process; here only the emulator's thread is waited for."""


@dataclass
class Run:
    """A prompt that has run.

    Attributes:
        prompt_id: its id.
        messages: what came over the socket, with the time of arrival.
    """

    prompt_id: str
    messages: list[tuple[float, str, Any]] = field(default_factory=list)

    def of(self, kind: str, node: str | None = None) -> list[Any]:
        return [data for _, name, data in self.messages if name == kind and node in {None, data.get("node")}]

    def at(self, kind: str) -> float:
        return next(when for when, name, _ in self.messages if name == kind)

    @property
    def end(self) -> str:
        return next(name for _, name, _ in reversed(self.messages) if name in ENDS)

    @property
    def error(self) -> str:
        return str(self.of("execution_error")[0]["exception_message"]).strip()

    def updates(self, node: str = "1") -> list[Any]:
        return self.of("lmbridge.update", node)

    def answers(self, node: str = "1") -> list[Any]:
        return self.of("executed", node)[0]["output"]["lmbridge"]

    def shown(self, node: str) -> list[str]:
        return self.of("executed", node)[0]["output"]["shown"]


class Client:
    """One page: its socket, and requests."""

    def __init__(self, url: str, session: aiohttp.ClientSession, client: str) -> None:
        self.url = url
        self.session = session
        self.client = client
        self.socket: aiohttp.ClientWebSocketResponse | None = None
        self.texts: list[bytes] = []

    async def queue(self, graph: dict[str, Any], **body: Any) -> Run:
        prompt = {name: {"_meta": {"title": name}, **node} for name, node in graph.items()}
        asked = {"prompt": prompt, "client_id": self.client, **body}
        async with self.session.post(f"{self.url}/prompt", json=asked) as response:
            answer = await response.json()
            assert response.status == 200, answer
        return Run(answer["prompt_id"])

    async def follow(self, run: Run, until: Callable[[Run], bool] = lambda run: False) -> Run:
        """Read messages until the prompt ends, or ``until`` is true."""
        assert self.socket is not None
        async with asyncio.timeout(40):
            while not until(run):
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.texts.append(message.data)
                    continue
                assert message.type is aiohttp.WSMsgType.TEXT, message
                found = json.loads(message.data)
                data = found["data"]
                if isinstance(data, dict) and data.get("prompt_id") in {None, run.prompt_id}:
                    run.messages.append((time.monotonic(), found["type"], data))
                    if found["type"] in ENDS:
                        break
        return run

    async def run(self, graph: dict[str, Any], **body: Any) -> Run:
        return await self.follow(await self.queue(graph, **body))

    async def get(self, path: str, **headers: str) -> Any:
        async with self.session.get(f"{self.url}{path}", headers=headers) as response:
            return await response.json()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.session.post(f"{self.url}{path}", json=body, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def interrupt(self) -> float:
        """Press ComfyUI's cancel button, and return when."""
        began = time.monotonic()
        await self.post("/interrupt", {})
        return began


@dataclass
class Comfy:
    """The server.

    Attributes:
        url: its address.
        emulator: the language-model server that our connections lead to.
        base: its base directory.
        log: its log file.
    """

    url: str
    emulator: ThreadedEmulator
    base: Path
    log: Path

    @asynccontextmanager
    async def page(self, client: str | None = None) -> AsyncIterator[Client]:
        """Open a page."""
        name = client or uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            opened = Client(self.url, session, name)
            async with session.ws_connect(f"{self.url}/ws?clientId={name}") as socket_:
                opened.socket = socket_
                yield opened


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _environment(address: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMBRIDGE_")}
    connections = {
        "LMSTUDIO_REST__BASE_URL": address,
        "LMSTUDIO_REST__API_KEY": CANARY,
        "LMSTUDIO_SDK__BASE_URL": address,
        "OPENAI_COMPAT__BASE_URL": f"{address}/v1",
        "GONE__PROVIDER": "lmstudio-rest",
        "GONE__BASE_URL": "http://127.0.0.1:9",
    }
    return inherited | {f"LMBRIDGE_CONNECTIONS__{name}": value for name, value in connections.items()}


def _install_acme(folder: Path) -> Path:
    """What ``pip install lmbridge-acme`` leaves behind."""
    folder.mkdir()
    (folder / "lmbridge_acme.py").symlink_to(ROOT / "examples/lmbridge-acme/lmbridge_acme.py")
    metadata = folder / "lmbridge_acme-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: lmbridge-acme\nVersion: 0.1.0\n", encoding="utf-8")
    entry = "[lmbridge.providers]\nacme = lmbridge_acme:Acme\n"
    (metadata / "entry_points.txt").write_text(entry, encoding="utf-8")
    return folder


def _frontend() -> list[str]:
    """Another page than the one that ComfyUI brings, if ``COMFYUI_FRONTEND`` names its folder."""
    named = os.environ.get("COMFYUI_FRONTEND")
    return ["--front-end-root", named] if named else []


def _prepared(base: Path) -> None:
    for name in ("custom_nodes", "user", "input", "output", "models"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "lm-bridge.pack-v1.0").symlink_to(ROOT, target_is_directory=True)
    (base / "custom_nodes" / "test_helpers").symlink_to(
        ROOT / "tests/comfy/helper_pack", target_is_directory=True
    )


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """The server, for the whole session."""
    checkout = Path(os.environ["COMFYUI_DIR"])
    base = tmp_path_factory.mktemp("comfy")
    _prepared(base)
    port, log = _free_port(), base / "log.txt"
    with ThreadedEmulator(Settings()) as emulator, log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [
                os.environ.get("COMFYUI_PYTHON", sys.executable),
                *("main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"),
                *("--base-directory", str(base), "--database-url", "sqlite:///:memory:"),
                *_frontend(),
            ],
            cwd=checkout,
            env=_environment(emulator.url) | {"PYTHONPATH": str(_install_acme(base / "site-packages"))},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, log)
            yield Comfy(url, emulator, base, log)
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-5000:]
        try:
            with urllib.request.urlopen(f"{url}/system_stats", timeout=5):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"ComfyUI does not start:\n{log.read_text(encoding='utf-8')[-5000:]}")


@pytest.fixture
async def page(comfy: Comfy) -> AsyncIterator[Client]:
    """A page of a server whose emulator is as at the start."""
    comfy.emulator.call(lambda emulator: [emulator.unload(copy.id) for copy in list(emulator.instances)])
    comfy.emulator.call(lambda emulator: emulator.forget())
    async with comfy.page() as opened:
        yield opened


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    """A chat node in the form of ComfyUI's API."""

    def make(prompt: Any = "Hello [[words=8]]", **inputs: Any) -> dict[str, Any]:
        given = {
            "connection": "lmstudio-rest",
            "model": "ibm/granite-4-micro",
            "preset": "none",
            "prompt": prompt,
        }
        return {"class_type": "LMBridge_Chat", "inputs": {**given, **inputs}}

    return make


@pytest.fixture
def canary() -> str:
    return CANARY
