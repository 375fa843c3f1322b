"""Starting, stopping, waiting, threads, and the price of importing."""

import asyncio
import dataclasses
import io
import subprocess
import sys
import threading
import typing
import urllib.request

import pytest

from lmbridge.emulator import Emulator, FakeClock, Settings, ThreadedEmulator, serve
from lmbridge.emulator.journal import Journal
from lmbridge.emulator.settings import Evidence
from lmbridge.emulator.switches import switches

LIMIT = 64 * 1024 * 1024 + 1
TEXT = "ibm/granite-4-micro"


async def test_everything_is_closed_whatever_was_going_on(connect):
    before = asyncio.all_tasks()
    async with Emulator(Settings.instant()) as emulator:
        http = await connect(emulator)
        gate = emulator.gates.hold("answering", after=2)
        body = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]}
        requests = [
            asyncio.create_task(http.post("/v1/chat/completions", body)),
            asyncio.create_task(http.post("/v1/chat/completions", {**body, "stream": True})),
            asyncio.create_task(http.post("/api/v1/models/load", {"model": "meta/llama-3.3-70b"})),
            asyncio.create_task(http.post("/api/v1/models/download", {"model": "mistralai/ministral-3-3b"})),
        ]
        socket = await http.session.ws_connect("/llm")
        await gate.reached(2)
        emulator.configure(greeting="hang")
        requests.append(asyncio.create_task(http.get("/lmstudio-greeting")))
        await emulator.wait_for(lambda e: e.find("/lmstudio-greeting"))
        url = emulator.url
    await asyncio.gather(*requests, return_exceptions=True)
    await socket.close()
    assert {task for task in asyncio.all_tasks() if not task.done()} == before
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection(*url.removeprefix("http://").split(":"))


async def test_an_emulator_that_is_not_started_has_no_port():
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = emulator.url
    await emulator.aclose()


async def test_a_taken_port_is_an_os_error(emulator):
    with pytest.raises(OSError, match=r"address already in use|10048|Only one usage"):
        await Emulator(port=emulator.port).start()


async def test_serve_runs_until_it_is_cancelled(connect):
    ready: asyncio.Future[Emulator] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(port=0, settings=Settings.instant(), on_ready=ready.set_result))
    http = await connect(await ready)
    assert (await http.get("/lmstudio-greeting"))[0] == 200
    await http.session.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waiting_in_vain_says_what_was_there(emulator, http):
    await http.chat("Hi")
    with pytest.raises(TimeoutError, match=r"#1 POST /v1/chat/completions finished"):
        await emulator.wait_for(lambda e: e.last.cancelled, timeout=0.01)
    with pytest.raises(TimeoutError, match="0 of 1"):
        await emulator.gates.hold("prompt").reached(timeout=0.01)
    with pytest.raises(ValueError, match="no phase"):
        emulator.gates.hold("sleeping")
    emulator.forget()
    assert emulator.requests == []


async def test_a_body_beyond_the_limit_is_refused(http):
    assert (await http.post("/v1/chat/completions", {}))[0] == 400
    async with http.session.post("/v1/chat/completions", data=io.BytesIO(b" " * LIMIT)) as response:
        assert response.status == 413


async def test_the_pace_is_that_of_the_clock(make_lmstudio_emulator, connect):
    clock = FakeClock()
    settings = Settings(loaded=(TEXT,))
    emulator = await make_lmstudio_emulator(settings, clock=clock)
    http = await connect(emulator)
    task = asyncio.create_task(http.post("/api/v1/chat", {"model": TEXT, "input": "[[words=3]]"}))
    while not task.done():
        await asyncio.sleep(0)
        clock.advance(0.001)
    _, answer = await task
    stats = answer["stats"]
    pace = settings.pace
    assert stats["time_to_first_token_seconds"] >= 4 * pace.prompt_step
    assert 0 < stats["tokens_per_second"] <= 1.01 * stats["total_output_tokens"] / (2 * pace.token)


def test_a_thread_of_its_own_serves_synchronous_callers():
    threads = threading.active_count()
    with ThreadedEmulator(Settings.instant()) as emulator:
        with urllib.request.urlopen(f"{emulator.url}/v1/models") as response:  # noqa: S310 - our own server
            assert b"granite" in response.read()
        assert emulator.wait_for(lambda e: e.last.finished)
        assert emulator.last.route == "GET /v1/models"
        gate = emulator.hold("answering")
        body = b'{"model":"ibm/granite-4-micro","messages":[{"role":"user","content":"[[say=x]]"}]}'
        answers: list[bytes] = []

        def ask() -> None:
            with urllib.request.urlopen(f"{emulator.url}/v1/chat/completions", body) as response:  # noqa: S310
                answers.append(response.read())

        thread = threading.Thread(target=ask)
        thread.start()
        emulator.reached(gate)
        assert emulator.find("/v1/chat/completions")[0].state == "open"
        emulator.configure(zero_usage=True)
        emulator.release()
        thread.join()
        emulator.advance(3600)
        assert emulator.call(lambda e: e.instances) == []
        assert b'"total_tokens":0' in answers[0]
        assert len(emulator.requests) == 2
        emulator.reset("switches")
        assert not emulator.emulator.settings.zero_usage
        assert len(emulator.requests) == 2
        emulator.reset()
        assert emulator.requests == []
        with pytest.raises(OSError, match=r"address already in use|10048|Only one usage"):
            ThreadedEmulator(port=emulator.port).start()
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="not been started"):
        ThreadedEmulator().release()


def test_the_journal_forgets_the_oldest():
    journal = Journal(limit=3, limit_bytes=100)
    for number in range(5):
        journal.open(f"R{number}", size=10)
    assert [record.route for record in journal.records] == ["R2", "R3", "R4"]
    journal.open("large", size=95)
    assert [record.route for record in journal.records] == ["large"]


async def test_no_passing_state_is_missed_by_who_waits():
    journal = Journal(limit=10, limit_bytes=100)
    record = journal.open("R")
    waiting = asyncio.create_task(journal.wait_for(lambda: record.phase == "loading", 10))
    await asyncio.sleep(0)
    record.enter("loading")
    record.enter("answering")
    assert await waiting is True


async def test_watchers_are_told_each_change_until_they_have_enough(caplog):
    journal, seen = Journal(limit=10, limit_bytes=100), []
    end = journal.watch(lambda record, what: seen.append((record and record.route, what)))
    broken = journal.watch(lambda _record, _what: 1 / 0)
    record = journal.open("R")
    record.enter("loading")
    journal.pulse()
    record.end("finished")
    end()
    end()
    broken()
    record.note()
    assert seen == [("R", "received"), ("R", "loading"), (None, ""), ("R", "finished")]
    assert caplog.text.count("ZeroDivisionError") == 4


async def test_what_a_predicate_raises_is_raised_where_somebody_waits():
    journal = Journal(limit=10, limit_bytes=100)
    waiting = asyncio.create_task(journal.wait_for(lambda: 1 / len(journal.records) > 1, 10))
    with pytest.raises(ZeroDivisionError):
        await waiting


@pytest.mark.parametrize("module", ["lmbridge.emulator", "lmbridge.emulator.pytest_plugin"])
def test_importing_costs_nothing(module):
    code = (
        f"import pytest, pytest_asyncio, sys; before = set(sys.modules); import {module};"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "heavy = {'aiohttp', 'msgspec', 'PIL', 'numpy', 'openai', 'lmstudio'} & new;"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_switch_says_what_it_means_and_how_that_is_known():
    table = switches()
    assert [switch.name for switch in table] == [field.name for field in dataclasses.fields(Settings)]
    for switch in table:
        assert switch.evidence in typing.get_args(Evidence), switch.name
        assert switch.kind, switch.name
        assert switch.source or switch.evidence == "harness", switch.name
        assert switch.meaning.endswith("."), switch.name
