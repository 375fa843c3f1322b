"""One bridge on several loops, one after the other, at once, and across a fork."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from lmbridge import Bridge, Cancelled, Finish, Message, ProviderInfo, Request, TextDelta, hookimpl
from lmbridge.limits import limiter
from lmbridge.settings import Settings

ASK = Request(model="m", messages=[Message.user("hi")])


class Client:
    """A provider that keeps a client and the HTTP session open; ``log`` tells what happened to them."""

    info = ProviderInfo(title="client", cooperative=True)
    log: list = []  # noqa: RUF012

    @hookimpl
    async def stream(self, request, context):
        await context.resource("client", self._client)
        self.log.append(context.http)
        yield TextDelta("x")
        if request.model == "endless":
            await asyncio.Event().wait()
        yield Finish("stop")

    @asynccontextmanager
    async def _client(self):
        self.log.append("opened")
        try:
            yield object()
        finally:
            self.log.append("closed")


@pytest.fixture
def acme():
    return type("Client", (Client,), {"log": []})


@pytest.fixture
def bridge(make_plugins, acme):
    plugins = make_plugins({"acme": acme})
    settings = Settings.load(environ={}, env_file=None, config_file=None, providers=plugins.providers)
    return Bridge(settings=settings, plugins=plugins)


def test_one_loop_after_the_other_leaves_nothing_open(bridge, acme):
    for _ in range(2):
        assert asyncio.run(bridge.generate("acme", ASK)).text == "x"
    assert [item for item in acme.log if isinstance(item, str)] == ["opened", "closed"] * 2
    sessions = [item for item in acme.log if not isinstance(item, str)]
    assert len(set(map(id, sessions))) == 2
    assert all(session.closed for session in sessions)
    assert len(bridge._loops) == 1  # the second found that the first one's loop was gone
    asyncio.run(bridge.close())
    assert not bridge._loops


def test_what_a_loop_left_behind_is_not_used_again(bridge, acme):
    async def main():
        await bridge.generate("acme", ASK)
        await asyncio.get_running_loop().shutdown_asyncgens()  # closes what the bridge has here
        with pytest.warns(ResourceWarning, match="after loop.shutdown_asyncgens"):
            assert (await bridge.generate("acme", ASK)).text == "x"
        await bridge.close()

    asyncio.run(main())
    assert [item for item in acme.log if isinstance(item, str)] == ["opened", "closed"] * 2


def test_closing_reaches_loops_of_other_threads(bridge, acme):
    reading, outcome = threading.Event(), []

    async def read():
        async with bridge.stream("acme", ASK.replace(model="endless")) as events:
            async for _ in events:
                reading.set()

    def thread():
        try:
            asyncio.run(read())
        except Cancelled as error:
            outcome.append(error)

    other = threading.Thread(target=thread)
    other.start()
    assert reading.wait(10)
    asyncio.run(bridge.close())
    other.join(10)
    assert outcome[0].connection == "acme"
    assert [item for item in acme.log if isinstance(item, str)] == ["opened", "closed"]


def test_closing_does_not_wait_for_a_loop_that_hears_nothing(bridge, monkeypatch):
    monkeypatch.setattr("lmbridge.runtime._CLOSE_SECONDS", 0.05)
    busy, go = threading.Event(), threading.Event()

    async def block():
        await bridge.generate("acme", ASK)
        busy.set()
        go.wait(10)  # on purpose in the loop

    other = threading.Thread(target=lambda: asyncio.run(block()))
    other.start()
    assert busy.wait(10)
    asyncio.run(bridge.close())
    go.set()
    other.join(10)


def test_closing_passes_over_loops_that_are_stopped_or_closed(bridge):
    stopped, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
    for loop in (stopped, closed):
        loop.run_until_complete(bridge.connections())
        loop.run_until_complete(_use(bridge))
    closed.run_until_complete(closed.shutdown_default_executor())
    closed.close()
    asyncio.run(bridge.close())
    stopped.run_until_complete(stopped.shutdown_asyncgens())
    stopped.run_until_complete(stopped.shutdown_default_executor())
    stopped.close()


async def _use(bridge):
    bridge._here()


def test_a_loop_that_ends_while_it_is_asked_to_close(bridge, monkeypatch):
    asyncio.run(_use(bridge))
    (resources,) = bridge._loops.values()
    monkeypatch.setattr(type(resources), "reachable", True)
    asyncio.run(bridge.close())


def test_what_was_held_on_a_loop_that_died_is_free_again(make_plugins, acme):
    name = "died"
    plugins = make_plugins({name: acme})
    settings = Settings.load(
        explicit={"connections": {name: {"max_concurrency": 1}}},
        environ={},
        env_file=None,
        config_file=None,
        providers=plugins.providers,
    )
    bridge = Bridge(settings=settings, plugins=plugins)
    loop = asyncio.new_event_loop()

    async def begin():
        events = await bridge.stream(name, ASK.replace(model="endless")).__aenter__()
        await anext(events)
        return events

    events = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    for session in acme.log[1:]:
        loop.run_until_complete(session.close())
    loop.close()  # without shutdown_asyncgens: nobody closes the stream any more
    slots = limiter(("calls", (name, "")))
    assert slots.active == 1
    assert asyncio.run(asyncio.wait_for(bridge.generate(name, ASK), 10)).text == "x"
    assert slots.active == 0
    del events
    gc.collect()
    assert slots.active == 0


def test_two_loops_at_once(bridge):
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: asyncio.run(bridge.generate("acme", ASK)).text, range(12)))
    assert answers == ["x"] * 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX can fork")
def test_a_forked_child_begins_anew():
    script = """
        import asyncio, os, sys, types, warnings
        warnings.simplefilter("ignore")
        import lmbridge
        from lmbridge import Finish, Message, ProviderInfo, Request, TextDelta, hookimpl
        from lmbridge.discovery import PROVIDER_GROUP, Found
        from lmbridge.limits import limiter
        from lmbridge.plugins import Plugins
        from lmbridge.settings import Settings

        class Acme:
            info = ProviderInfo(title="x")

            @hookimpl
            async def stream(self, request, context):
                yield TextDelta("x")
                if request.model == "endless":
                    await asyncio.Event().wait()
                yield Finish("stop")

        sys.modules["acme_module"] = module = types.ModuleType("acme_module")
        module.Acme = Acme
        plugins = Plugins([Found(PROVIDER_GROUP, "acme", "acme_module:Acme", "t", "1")], environ={})
        settings = Settings.load(
            explicit={"connections": {"acme": {"max_concurrency": 1}}},
            environ={}, env_file=None, config_file=None, providers=plugins.providers,
        )
        bridge = lmbridge.sync.Bridge(settings=settings, plugins=plugins)
        ask = Request(model="m", messages=[Message.user("x")])
        with bridge.stream("acme", ask.replace(model="endless")) as events:
            next(events)  # holds the only slot, on the parent's runtime thread
            child = os.fork()
            if child == 0:
                ok = bridge.generate("acme", ask).text == "x"
                bridge.close()
                os._exit(0 if ok else 1)
            _, status = os.waitpid(child, 0)
        assert limiter(("calls", ("acme", ""))).active == 0
        assert bridge.generate("acme", ask).text == "x"
        bridge.close()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    paths = os.pathsep.join(item for item in sys.path if item)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
