"""What every test may use: a clean environment, and bridges over providers that live in the test itself."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trustme
from blockbuster import blockbuster_ctx

from lmbridge.bridge import Bridge
from lmbridge.catalog import ProviderInfo
from lmbridge.discovery import MIDDLEWARE_GROUP, PROVIDER_GROUP, Found
from lmbridge.plugins import Plugins
from lmbridge.settings import Connection, Settings

# tox says "ci": the same examples in every run, so that a change breaks a test, not the day's luck. A plain
# pytest looks for new ones. Both print how to repeat a failure, and no machine is too slow for them.
_TOO_SLOW = [hypothesis.HealthCheck.too_slow]
_HYPOTHESIS = {"deadline": None, "print_blob": True, "suppress_health_check": _TOO_SLOW}
hypothesis.settings.register_profile("dev", **_HYPOTHESIS)
hypothesis.settings.register_profile("ci", derandomize=True, database=None, **_HYPOTHESIS)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

_FOREIGN = ("OPENAI_", "LM_API_TOKEN", "LMSTUDIO_API_TOKEN", "LMBRIDGE_")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> Iterator[None]:
    """A run in the background of a script ignores Ctrl-C, and so would the processes that tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the developer's own connections, keys, ``.env`` or configuration file."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LMBRIDGE_CONFIG_FILE", str(tmp_path_factory.getbasetemp() / "no-such.toml"))
    monkeypatch.setenv("LMBRIDGE_ENV_FILE", str(tmp_path_factory.getbasetemp() / "no-such.env"))


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one certificate of a made-up authority."""
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(autouse=True)
def few_certificates(one_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any test speaks TLS, yet each client of httpx reads the authorities of the world."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A blocking call in an event loop fails the test."""
    with blockbuster_ctx("lmbridge"):
        yield


#: Reads the numbers of processes, ``-`` in front of those that have ended, and kills the others at its end.
_REAPER = """
import contextlib, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
alive = set()
for line in sys.stdin:
    number = int(line)
    alive.add(number) if number > 0 else alive.discard(-number)
for number in alive:
    with contextlib.suppress(OSError):
        os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))
"""


@pytest.fixture(scope="session")
def mortal() -> Iterator[Callable[[int], Callable[[], None]]]:
    """``ended = mortal(pid)``: this process dies with the test run, however that ends; then ``ended()``.

    A run that is killed has no time to tidy up. Its pipes are closed by the system, and a process that waits
    for that does it.
    """
    with subprocess.Popen([sys.executable, "-c", _REAPER], stdin=subprocess.PIPE, text=True) as reaper:
        assert reaper.stdin is not None

        def tell(number: int) -> None:
            assert reaper.stdin is not None
            reaper.stdin.write(f"{number}\n")
            reaper.stdin.flush()

        def adopt(number: int) -> Callable[[], None]:
            tell(number)
            return lambda: tell(-number)

        yield adopt
        reaper.stdin.close()


_numbers = itertools.count()


def found(group: str, name: str, value: Any, distribution: str = "tests") -> Found:
    """Return an entry point that names ``value``, which lives in a module made for it."""
    module = types.ModuleType(f"lmbridge_test_plugin_{next(_numbers)}")
    module.plugin = value  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return Found(group, name, f"{module.__name__}:plugin", distribution, "1.0")


@pytest.fixture
def make_plugins() -> Callable[..., Plugins]:
    """A factory of :class:`Plugins` from classes: ``make_plugins({"acme": Acme}, middleware={…})``."""

    def make(
        providers: Mapping[str, Any], middleware: Mapping[str, Any] | None = None, **fields: Any
    ) -> Plugins:
        declared = [found(PROVIDER_GROUP, name, value) for name, value in providers.items()]
        declared += [found(MIDDLEWARE_GROUP, name, value) for name, value in (middleware or {}).items()]
        return Plugins(declared, environ=fields.pop("environ", {}), **fields)

    return make


@pytest.fixture
async def make_bridge(make_plugins: Callable[..., Plugins]) -> AsyncIterator[Callable[..., Bridge]]:
    """A factory of bridges: ``make_bridge({"acme": Acme}, connections={…}, middleware={…})``."""
    bridges: list[Bridge] = []

    def make(
        providers: Mapping[str, Any],
        *,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        middleware: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Bridge:
        plugins = make_plugins(providers, middleware, environ=environ or {})

        def load() -> Settings:
            return Settings.load(
                explicit={"connections": dict(connections or {})},
                environ=environ or {},
                env_file=None,
                config_file=None,
                providers=plugins.providers,
            )

        with ThreadPoolExecutor(1) as thread:  # reads files, which a loop must not
            settings = thread.submit(load).result()
        bridge = Bridge(settings=settings, plugins=plugins)
        bridges.append(bridge)
        return bridge

    yield make
    for bridge in bridges:
        await bridge.close()


@pytest.fixture
def make_connection() -> Callable[..., Connection]:
    """A factory of resolved connections: ``make_connection(base_url=…, api_key=…, settings={…})``."""

    def make(name: str = "acme", *, info: ProviderInfo | None = None, **fields: Any) -> Connection:
        values = {key: value for key, value in fields.items() if value is not None}
        settings = Settings.load(
            explicit={"connections": {name: {"provider": "acme", **values}}},
            environ={},
            env_file=None,
            config_file=None,
            providers=("acme",),
        )
        return settings.resolve(name, info or ProviderInfo(title="test"))

    def off_the_loop(*args: Any, **fields: Any) -> Connection:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(make, *args, **fields).result()

    return off_the_loop


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._threads = 0
        real = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            ready = real(None if timeout is None else 0)
            while not ready and timeout and self._threads:
                ready = real(0.001)  # a thread works in real time: virtual time waits for it
            if not ready and timeout:
                self._now += timeout
            return ready

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def run_in_executor(self, *args: Any) -> Any:
        self._threads += 1
        future = super().run_in_executor(*args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._threads += 1  # since Python 3.12 its end is awaited with a timeout, which must not jump
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads -= 1


@pytest.fixture
def in_virtual_time() -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    """Run an async function on a loop where waiting takes no time: ``in_virtual_time(lambda: work())``."""

    def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            return await work()

        with asyncio.Runner(loop_factory=_VirtualTimeLoop, debug=False) as runner:
            return runner.run(main())

    return run
