"""The command line as a user runs it: in this process, as a process of its own, or with a fake provider."""

import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from lmbridge.emulator import Settings, ThreadedEmulator

PLUGINS = ("lmstudio-sdk", "lmstudio-rest", "openai-compat")


class Outcome(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, each line read as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a folder and empty settings files of its own, and leaves the log as it was."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for variable, name in (("LMBRIDGE_CONFIG_FILE", "lmbridge.toml"), ("LMBRIDGE_ENV_FILE", "empty.env")):
        file = tmp_path / name
        file.touch()
        monkeypatch.setenv(variable, str(file))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    yield
    for handler in logging.getLogger().handlers[:]:
        if handler.get_name() == "lmbridge.cli":
            logging.getLogger().removeHandler(handler)


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """Run a command in this process: ``run("chat", "hello", stdin="…")``."""

    def call(*arguments: str, stdin: str | bytes = "") -> Outcome:
        from lmbridge.cli.app import app

        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def process_environment() -> Callable[[], dict[str, str]]:
    """The environment for a process of its own, with the same import path."""

    def make() -> dict[str, str]:
        path = os.pathsep.join(filter(None, sys.path))
        return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}

    return make


@pytest.fixture
def start(
    process_environment: Callable[[], dict[str, str]], mortal: Callable[[int], Callable[[], None]]
) -> Iterator[Callable[..., Any]]:
    """Start a command as a process, with pipes: ``start("chat", "hello")``; it ends with the test."""
    ended: list[Callable[[], None]] = []
    started: list[subprocess.Popen[bytes]] = []

    def call(*arguments: str, python: tuple[str, ...] = ("-m", "lmbridge"), **settings: Any) -> Any:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, *python, *arguments], env=process_environment(), **{**pipes, **settings}
        )
        started.append(process)
        ended.append(mortal(process.pid))
        return process

    yield call
    for process in started:
        if process.poll() is None and sys.platform != "win32":
            process.send_signal(signal.SIGINT)  # an orderly end, which coverage needs to be written
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        process.kill()
        process.wait()
        ended.pop(0)()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def run_process(start: Callable[..., Any]) -> Callable[..., Outcome]:
    """Run a command as a process of its own to its end."""

    def call(*arguments: str, stdin: bytes = b"", **settings: Any) -> Outcome:
        process = start(*arguments, **settings)
        out, err = process.communicate(stdin, timeout=40)
        return Outcome(process.returncode, out.decode("utf-8"), err.decode("utf-8"))

    return call


@pytest.fixture
def interrupt() -> Callable[[Any], None]:
    """Send Ctrl-C to a process."""
    return lambda process: process.send_signal(signal.SIGINT)


@pytest.fixture
def emulator_settings() -> Settings:
    """The settings of ``emulator``: override this fixture to change them."""
    return Settings.instant(loaded=("qwen/qwen3-4b",))


@pytest.fixture
def emulator(emulator_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEmulator]:
    """A running emulator at which all three plugins' connections are pointed."""
    with ThreadedEmulator(emulator_settings) as server:
        for plugin in PLUGINS:
            variable = f"LMBRIDGE_CONNECTIONS__{plugin.upper().replace('-', '_')}__BASE_URL"
            monkeypatch.setenv(variable, server.emulator.url)
        yield server


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    """All three plugins' connections lead to a port where nobody listens."""
    for plugin in PLUGINS:
        variable = f"LMBRIDGE_CONNECTIONS__{plugin.upper().replace('-', '_')}__BASE_URL"
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_tcp_port}")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package with one provider: ``install("acme", '''class Acme: …''', value="acme:Acme")``."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def call(name: str, source: str, *, value: str | None = None) -> None:
        module = f"{name.replace('-', '_')}_of_{tmp_path.name.replace('-', '_')}"
        header = "import asyncio\nimport lmbridge\nfrom lmbridge import *\nfrom lmbridge import hookimpl\n"
        (site / f"{module}.py").write_text(header + textwrap.dedent(source), encoding="utf-8")
        info = site / f"{name.replace('-', '_')}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n", encoding="utf-8"
        )
        point = value or f"{module}:Provider"
        (info / "entry_points.txt").write_text(f"[lmbridge.providers]\n{name} = {point}\n", encoding="utf-8")
        importlib.invalidate_caches()

    return call


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str, seconds: float = 20.0) -> str:
        """Read until ``text`` has come, and return all up to it."""
        import select

        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self._descriptor, 4096).decode("utf-8", "replace")
        before, found, self.seen = self.seen.partition(text)
        return before + found


@pytest.fixture
def terminal(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start a command at a pseudo-terminal."""
    if sys.platform == "win32":
        pytest.skip("there are no pseudo-terminals")
    import pty

    opened: list[int] = []

    def call(*arguments: str) -> tuple[Any, Terminal]:
        monkeypatch.setenv("TERM", "xterm-256color")
        ours, theirs = pty.openpty()
        opened.append(ours)
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        return process, Terminal(ours)

    yield call
    for descriptor in opened:
        os.close(descriptor)
