"""LM Studio's JavaScript client, in one process of Node for all conversations of a run.

The packages are those of ``LMBRIDGE_NODE_WITNESS``, a folder with ``node_modules``, else of this folder.
"""

import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmbridge.emulator import Settings, ThreadedEmulator

HERE = Path(__file__).parent
PACKAGES = Path(os.environ.get("LMBRIDGE_NODE_WITNESS") or HERE)
PATIENCE = 30.0
"""Seconds until a conversation that says nothing has failed."""


class ClientError(Exception):
    """The conversation ended with an error of the client."""


class Talk:
    """One conversation."""

    def __init__(self, witness: "Witness", number: int) -> None:
        self._witness = witness
        self.number = number
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.logs: list[str] = []

    def say(self, word: str) -> None:
        """Tell the conversation a word."""
        self._witness.send({"id": self.number, "say": word})

    def told(self, word: str) -> dict[str, Any]:
        """Wait until the conversation tells this word."""
        line = self._next()
        assert line.get("told") == word, line
        return line

    def result(self) -> Any:
        """Wait for the end."""
        line = self._next()
        if "error" in line:
            raise ClientError(line)
        assert "result" in line, line
        return line["result"]

    def _next(self) -> dict[str, Any]:
        while True:
            try:
                line = self.lines.get(timeout=PATIENCE)
            except queue.Empty:
                raise TimeoutError(f"the client says nothing; it has logged {self.logs}") from None
            if "log" not in line:
                return line
            self.logs.append(line["log"])


class Witness:
    """The process."""

    def __init__(self, node: str) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("LM_")}
        self._process = subprocess.Popen(
            [node, str(HERE / "witness.mjs"), str(PACKAGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            encoding="utf-8",
        )
        self._numbers = itertools.count(1)
        self._talks: dict[int, Talk] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, order: dict[str, Any]) -> None:
        """Write one order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def start(self, name: str, **order: Any) -> Talk:
        """Begin a conversation."""
        talk = Talk(self, next(self._numbers))
        self._talks[talk.number] = talk
        self.send({"id": talk.number, "name": name, **order})
        return talk

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            self._talks[line["id"]].lines.put(line)
        for talk in tuple(self._talks.values()):
            talk.lines.put({"died": self._process.wait()})

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="session")
def witness() -> Iterator[Witness]:
    """The process of this run."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node 20 or later on the PATH, and `npm ci` in tests/witnesses/node")
    if not (PACKAGES / "node_modules" / "@lmstudio" / "sdk").is_dir():
        pytest.skip(f"needs LM Studio's JavaScript client: run `npm ci` in {HERE}")
    process = Witness(node)
    yield process
    process.close()


@pytest.fixture(params=["1", "2"], ids=["sdk1.5", "sdk2.0"])
def sdk(request: pytest.FixtureRequest) -> str:
    """The major version of the client."""
    return str(request.param)


@pytest.fixture
def emulator(lmstudio_emulator_settings: Settings) -> Iterator[ThreadedEmulator]:
    """A plain emulator at full speed."""
    with ThreadedEmulator(lmstudio_emulator_settings) as emulator:
        yield emulator


@pytest.fixture
def start(witness: Witness, sdk: str, emulator: ThreadedEmulator) -> Callable[..., Talk]:
    """Begin a conversation with ``emulator``: ``start("respond", key="qwen/qwen3-4b")``."""

    def begin(name: str, *, token: str | None = None, **args: Any) -> Talk:
        more = {} if token is None else {"token": token}
        return witness.start(name, sdk=sdk, url=f"ws://{emulator.address}", args=args, **more)

    return begin


@pytest.fixture
def hold(start: Callable[..., Talk], emulator: ThreadedEmulator) -> Callable[..., Any]:
    """Hold a whole conversation in which the client has nothing to complain about, and return its result.

    A client that cannot read an answer says so to the server, and in its log.
    """

    def whole(name: str, **args: Any) -> Any:
        talk = start(name, **args)
        result = talk.result()
        assert talk.logs == []
        frames = [frame for record in emulator.requests for frame in record.frames]
        assert not [frame for frame in frames if frame.get("type") == "communicationWarning"]
        return result

    return whole
