"""What was loaded for this process, and unloading exactly that."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

import lmbridge.ledger
from lmbridge.bridge import Bridge
from lmbridge.catalog import LoadedInstance, Model
from lmbridge.chat import Message, Request
from lmbridge.emulator import Emulator
from lmbridge.errors import LMBridgeError, ModelLoadFailed
from lmbridge.ledger import Ledger, Loaded
from lmbridge.settings import Connection

LLM = "ibm/granite-4-micro"
OTHER = "qwen/qwen3-4b"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def listed(name: str, *copies: str) -> Model:
    return Model(id=name, loaded=tuple(LoadedInstance(id=copy) for copy in copies))


def test_a_load_that_began_is_ours_until_it_is_gone(make_connection: Callable[..., Connection]) -> None:
    ledger, there = Ledger(), make_connection(base_url="http://127.0.0.1:1234")
    ledger.began(there, LLM)
    assert ledger.models(there) == (Loaded("acme", LLM, loading=True, number=1),)
    ledger.reconcile(there, [listed(LLM, LLM)])
    assert ledger.all() == (Loaded("acme", LLM, loading=False, number=1),)
    ledger.gone(there, [LLM])
    assert ledger.models(there) == ()


def test_two_ways_to_one_server_share_its_models(make_connection: Callable[..., Connection]) -> None:
    ledger = Ledger()
    ledger.began(make_connection("one", base_url="http://localhost:1234"), LLM)
    assert ledger.models(make_connection("two", base_url="http://127.0.0.1:1234/v1"))
    assert not ledger.models(make_connection("three", base_url="http://127.0.0.1:1235"))
    assert not ledger.models(make_connection("four", base_url="http://192.168.1.5:1234"))


def test_connections_without_an_address_share_nothing(make_connection: Callable[..., Connection]) -> None:
    ledger = Ledger()
    ledger.began(make_connection("one"), LLM)
    assert ledger.models(make_connection("one"))
    assert not ledger.models(make_connection("two"))


def test_what_the_server_dropped_is_no_longer_ours(make_connection: Callable[..., Connection]) -> None:
    ledger, there = Ledger(), make_connection(base_url="http://127.0.0.1:1234")
    ledger.began(there, LLM)
    ledger.reconcile(there, [listed(LLM, LLM)])
    ledger.reconcile(there, [listed(LLM)])  # idle for too long, or unloaded by its owner
    assert ledger.models(there) == ()
    ledger.reconcile(there, [listed(LLM, LLM)])  # somebody else loads it again
    assert ledger.models(there) == ()


async def test_a_model_that_has_answered_is_loaded_without_any_list(
    bridge: Bridge, lmstudio_emulator: Emulator
) -> None:
    ledger = lmbridge.ledger.ledger()
    await bridge.generate("lmstudio-rest", asking(LLM))
    assert [item.loading for item in ledger.all()] == [False]
    lmstudio_emulator.unload(LLM)  # by its owner
    await bridge.list_models("lmstudio-rest")
    assert ledger.all() == ()
    await bridge.load_model("lmstudio-rest", LLM)
    assert [item.loading for item in ledger.all()] == [False]


def test_a_list_that_cannot_tell_changes_nothing(make_connection: Callable[..., Connection]) -> None:
    ledger, there = Ledger(), make_connection(base_url="http://127.0.0.1:1234")
    ledger.began(there, LLM)
    ledger.reconcile(there, [listed(LLM, LLM)])
    ledger.reconcile(there, [Model(id=LLM)])
    ledger.reconcile(there, [])
    assert ledger.models(there) == (Loaded("acme", LLM, loading=False, number=1),)


def test_a_load_that_never_ends_is_forgotten(make_connection: Callable[..., Connection]) -> None:
    clock = Clock()
    ledger, there = Ledger(clock), make_connection(base_url="http://127.0.0.1:1234")
    ledger.began(there, LLM)
    clock.now = 800.0
    ledger.reconcile(there, [listed(LLM)])
    assert ledger.models(there) == (Loaded("acme", LLM, loading=True, number=1),)
    clock.now = 1000.0
    ledger.reconcile(there, [listed(LLM)])
    assert ledger.models(there) == ()


def test_a_failed_load_is_not_ours_but_an_earlier_one_stays(
    make_connection: Callable[..., Connection],
) -> None:
    ledger, there = Ledger(), make_connection(base_url="http://127.0.0.1:1234")
    ledger.began(there, LLM)
    ledger.failed(there, LLM)
    assert ledger.models(there) == ()
    ledger.began(there, LLM)
    ledger.reconcile(there, [listed(LLM, LLM)])
    ledger.failed(there, LLM)
    assert ledger.models(there)


@pytest.fixture
async def bridge(lmstudio_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bridge]:
    monkeypatch.setattr("lmbridge.ledger._ledger", Ledger())
    address = {"base_url": lmstudio_emulator.url}
    async with Bridge({"lmstudio-rest": address, "lmstudio-sdk": address}) as opened:
        yield opened


def asking(model: str, text: str = "Hello") -> Request:
    return Request(model=model, messages=[Message.user(text)])


@pytest.mark.parametrize("connection", ["lmstudio-rest", "lmstudio-sdk"])
async def test_what_a_request_loaded_is_released(
    bridge: Bridge, lmstudio_emulator: Emulator, connection: str
) -> None:
    await bridge.generate(connection, asking(LLM))
    assert [copy.model.key for copy in lmstudio_emulator.instances] == [LLM]
    assert await bridge.release(connection) == (LLM,)
    assert not list(lmstudio_emulator.instances)
    assert await bridge.release(connection) == ()


async def test_the_other_interface_of_the_same_server_releases_it_too(
    bridge: Bridge, lmstudio_emulator: Emulator
) -> None:
    await bridge.generate("lmstudio-rest", asking(LLM))
    assert await bridge.release("lmstudio-sdk", LLM) == (LLM,)
    assert not list(lmstudio_emulator.instances)


@pytest.mark.parametrize("connection", ["lmstudio-rest", "lmstudio-sdk"])
async def test_what_was_loaded_before_is_not_released(
    make_lmstudio_emulator: Callable[..., AsyncIterator[Emulator]], connection: str
) -> None:
    emulator = await make_lmstudio_emulator(loaded=(LLM,))  # type: ignore[misc]
    async with Bridge({connection: {"base_url": emulator.url}}) as bridge:
        await bridge.generate(connection, asking(LLM))
        await bridge.load_model(connection, LLM)
        assert await bridge.release(connection) == ()
        assert [copy.model.key for copy in emulator.instances] == [LLM]


async def test_only_the_model_that_is_named_is_released(bridge: Bridge, lmstudio_emulator: Emulator) -> None:
    lmstudio_emulator.configure(auto_evict=False)
    await bridge.generate("lmstudio-rest", asking(LLM))
    await bridge.load_model("lmstudio-rest", OTHER)
    assert await bridge.release("lmstudio-rest", OTHER) == (OTHER,)
    assert [copy.model.key for copy in lmstudio_emulator.instances] == [LLM]


async def test_a_load_that_a_cancelled_request_left_behind_is_undone(
    bridge: Bridge, lmstudio_emulator: Emulator
) -> None:
    lmstudio_emulator.configure(load_survives_disconnect=True)
    gate = lmstudio_emulator.gates.hold("loading")
    async with asyncio.timeout(30):
        async with bridge.stream("lmstudio-rest", asking(LLM)) as events:
            await anext(events)
        releasing = asyncio.create_task(bridge.release("lmstudio-rest"))
        await gate.reached()
        gate.release()
        await releasing
    assert not list(lmstudio_emulator.instances)


async def test_a_load_for_which_another_request_waits_by_now_is_left_alone(
    bridge: Bridge, lmstudio_emulator: Emulator
) -> None:
    gate = lmstudio_emulator.gates.hold("loading")
    async with asyncio.timeout(30):
        async with bridge.stream("lmstudio-rest", asking(LLM)) as events:
            await anext(events)  # the server calls the load off
        releasing = asyncio.create_task(bridge.release("lmstudio-rest", timeout=3600))
        await gate.reached()
        again = asyncio.create_task(bridge.generate("lmstudio-rest", asking(LLM)))
        await lmstudio_emulator.wait_for(lambda emulator: len(emulator.find("/api/v1/chat")) == 2)
        gate.release()
        await again
        assert await releasing == ()
    assert [copy.model.key for copy in lmstudio_emulator.instances] == [LLM]


async def test_only_loads_that_had_begun_by_then_are_released(
    bridge: Bridge, lmstudio_emulator: Emulator
) -> None:
    before = lmbridge.ledger.ledger().newest
    await bridge.generate("lmstudio-rest", asking(LLM))
    assert await bridge.release("lmstudio-rest", newest=before) == ()
    assert [copy.model.key for copy in lmstudio_emulator.instances] == [LLM]
    assert await bridge.release("lmstudio-rest", newest=lmbridge.ledger.ledger().newest) == (LLM,)


async def test_a_load_that_failed_is_not_waited_for(bridge: Bridge, lmstudio_emulator: Emulator) -> None:
    lmstudio_emulator.configure(load_failure=True)
    with pytest.raises(ModelLoadFailed):
        await bridge.generate("lmstudio-rest", asking(LLM))
    async with asyncio.timeout(30):
        assert await bridge.release("lmstudio-rest", timeout=3600) == ()


async def test_an_unreachable_server_is_an_error(bridge: Bridge, lmstudio_emulator: Emulator) -> None:
    await bridge.generate("lmstudio-rest", asking(LLM))
    await lmstudio_emulator.aclose()
    with pytest.raises(LMBridgeError):
        await bridge.release("lmstudio-rest")
