"""Updates of a node: few, in order, complete."""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lmbridge.events import Finish, Progress, ReasoningDelta, TextDelta, Usage

Pack = Callable[[str], ModuleType]


@pytest.fixture
def make(pack: Pack, host: Any) -> Callable[..., Any]:
    """A display whose clock is the running loop's."""

    def display(*, client: str | None = "page", has_script: bool = True, **options: Any) -> Any:
        display, own = pack("display"), pack("_host")
        screen = pack("screens").Screen(own.Place("p", "1", 0), "1", client, "w", has_script)
        return display.Display(screen, clock=asyncio.get_running_loop().time, **options)

    return display


def test_a_thousand_tokens_make_few_updates(make: Any, host: Any, in_virtual_time: Any) -> None:
    async def work() -> None:
        display = make()
        display.begin()
        for number in range(1000):
            display.take(TextDelta(f"{number} "))
            await asyncio.sleep(0.001)
        display.end("done")

    in_virtual_time(work)
    updates = host.updates()
    assert "".join(one["text"] for one in updates) == "".join(f"{number} " for number in range(1000))
    assert 10 <= len(updates) <= 13
    assert [one["seq"] for one in updates] == list(range(len(updates)))
    assert updates[0]["phase"] == "connecting"
    assert updates[-1]["phase"] == "done"


def test_a_lone_token_is_not_held_back(make: Any, host: Any, in_virtual_time: Any) -> None:
    async def work() -> None:
        display = make()
        display.begin()
        await asyncio.sleep(5)
        display.take(ReasoningDelta("hm"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert host.updates()[-1]["reasoning"] == "hm"
        assert host.updates()[-1]["phase"] == "reasoning"

    in_virtual_time(work)


def test_phases_bars_and_speed(make: Any, host: Any, in_virtual_time: Any, pack: Pack) -> None:
    bars: list[Any] = []

    async def work() -> None:
        display = make(max_tokens=10, moved=bars.append)
        display.begin()
        for event in (
            Progress("queued"),
            Progress("loading model", 0.5),
            Progress("reading prompt", 0.25),
            TextDelta("a"),
            TextDelta("b"),
            TextDelta("c"),
            Usage(completion_tokens=4),
            Finish("stop"),
        ):
            display.take(event)
            await asyncio.sleep(1)
        display.end("done")

    in_virtual_time(work)
    bar = pack("display").Bar
    assert [bar(0.5, 1.0), bar(0.25, 1.0), bar(1.0, 10.0), bar(2.0, 10.0)] == bars[:4]
    assert bars[-1] == bar(4.0, 10.0)
    phases = [one["phase"] for one in host.updates()]
    assert list(dict.fromkeys(phases)) == [
        "connecting", "queued", "loading model", "reading prompt", "answering", "done",
    ]  # fmt: skip
    assert next(one for one in host.updates() if one["tokens"] == 3)["tokens_per_second"] == 1.0
    assert host.updates()[-1]["tokens"] == 4


def test_nothing_comes_after_the_end(make: Any, host: Any, in_virtual_time: Any) -> None:
    async def work() -> None:
        display = make()
        display.begin()
        display.take(TextDelta("a"))
        display.end("failed", "gone: Nobody answers.")
        display.take(TextDelta("b"))
        display.end("done")
        await asyncio.sleep(1)

    in_virtual_time(work)
    assert [one["phase"] for one in host.updates()] == ["connecting", "failed"]
    assert host.updates()[-1]["message"] == "gone: Nobody answers."


def test_comfyuis_own_display_is_used_without_our_script(make: Any, host: Any, in_virtual_time: Any) -> None:
    async def work() -> None:
        display = make(has_script=False)
        display.begin()
        for _ in range(300):
            display.take(TextDelta("word "))
            await asyncio.sleep(0.01)
        display.take(TextDelta("last"))
        display.end("done")

    in_virtual_time(work)
    assert host.texts[-1].endswith("last")
    assert len(host.texts) <= 8
    assert all(len(text) <= 2000 for text in host.texts)


def test_a_page_that_has_gone_is_no_failure(make: Any, host: Any, monkeypatch: Any, pack: Pack) -> None:
    def closed(*_: Any) -> None:
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(pack("_host"), "send", closed)

    async def work() -> None:
        display = make()
        display.begin()
        display.end("done")

    asyncio.run(work())
