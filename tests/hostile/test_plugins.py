"""Plugins of others: broken, rude, silent. The error has the plugin's name, and the other plugins work."""

import asyncio
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from lmbridge import (
    Finish,
    LMBridgeError,
    Message,
    PluginError,
    ProtocolError,
    ProviderInfo,
    Request,
    Result,
    TextDelta,
    TimedOut,
    Timeouts,
    UnsupportedFeature,
    hookimpl,
)
from lmbridge.discovery import PROVIDER_GROUP, Found
from lmbridge.plugins import Plugins
from lmbridge.settings import Settings

ASK = Request(model="m", messages=[Message.user("hi")])
SHORT = ASK.replace(timeouts=Timeouts(first_event=0.3, idle=0.3))
SECRET = "hunter2-of-the-plugin"


class Good:
    info = ProviderInfo(title="good")

    @hookimpl
    async def stream(self, request, context):
        yield TextDelta("fine")
        yield Finish("stop", "m")


def provider(stream: Callable[..., Any], **fields: Any) -> type:
    """Return a provider whose ``stream`` is this function of request and context."""

    class Rude:
        info = ProviderInfo(title="rude", **fields)

        @hookimpl
        def stream(self, request, context):
            return stream(request, context)

    return Rude


async def raises_at_once(request, context):
    raise ValueError(f"no luck with {context.connection.api_key.get_secret_value()}")
    yield


async def raises_in_the_middle(request, context):
    yield TextDelta("some")
    raise KeyError(context.connection.api_key.get_secret_value())


def raises_in_the_hook(request, context):
    raise RuntimeError(f"bad {context.connection.api_key.get_secret_value()}")


async def yields_a_number(request, context):
    yield TextDelta("some")
    yield 7


async def yields_text(request, context):
    yield "some text"


async def yields_a_nested_list(request, context):
    yield [[TextDelta("x")]]


async def yields_after_the_end(request, context):
    yield TextDelta("some")
    yield Finish("stop", "m")
    raise AssertionError("nobody asks for more")


async def ends_without_finish(request, context):
    yield TextDelta("some")


async def ends_at_once(request, context):
    return
    yield


async def raises_generator_exit(request, context):
    yield TextDelta("some")
    raise GeneratorExit


async def raises_stop_async_iteration(request, context):
    yield TextDelta("some")
    raise StopAsyncIteration


async def cancels_itself(request, context):
    yield TextDelta("some")
    raise asyncio.CancelledError


async def recurses(request, context):
    def deeper() -> None:
        deeper()

    yield TextDelta("some")
    deeper()


async def text_that_is_none(request, context):
    yield TextDelta(None)  # type: ignore[arg-type]
    yield Finish("stop", "m")


def returns_nothing(request, context):
    return None


def returns_a_list(request, context):
    return [TextDelta("x")]


def returns_a_generator(request, context):
    yield TextDelta("x")


async def returns_a_result(request, context):
    return Result("x")


class Broken:
    """An iterator that fails in whatever it is asked for."""

    def __aiter__(self):
        return self

    def __anext__(self):
        raise ZeroDivisionError

    async def aclose(self):
        raise ZeroDivisionError


def returns_a_broken_iterator(request, context):
    return Broken()


RUDE = [
    raises_at_once,
    raises_in_the_middle,
    raises_in_the_hook,
    yields_a_number,
    yields_text,
    yields_a_nested_list,
    ends_without_finish,
    ends_at_once,
    raises_generator_exit,
    raises_stop_async_iteration,
    cancels_itself,
    recurses,
    text_that_is_none,
    returns_nothing,
    returns_a_list,
    returns_a_generator,
    returns_a_result,
    returns_a_broken_iterator,
]


@pytest.mark.parametrize("cooperative", [False, True], ids=["alone", "cooperative"])
@pytest.mark.parametrize("stream", RUDE, ids=lambda function: function.__name__)
async def test_a_provider_that_breaks_the_contract(make_bridge, fails, stream, cooperative):
    providers = {"rude": provider(stream, cooperative=cooperative), "good": Good}
    places = {"place": {"provider": "rude", "api_key": SECRET}}
    bridge, text, error = make_bridge(providers, connections=places), "", None
    async with asyncio.timeout(40):
        try:
            async with bridge.stream("place", ASK) as events:
                async for event in events:
                    text += event.text or "" if isinstance(event, TextDelta) else ""
        except Exception as exc:  # noqa: BLE001 - any class is looked at
            error = exc
        assert (await bridge.generate("good", ASK)).text == "fine"
    if stream is text_that_is_none and error is None:
        return  # what a delta holds is not looked at, for speed
    assert error is not None
    fails(error, PluginError | ProtocolError, secrets=[SECRET])
    assert "'rude'" in error.message
    if "middle" in stream.__name__ or "yields_a_number" in stream.__name__:
        assert text == "some"


async def test_nothing_is_asked_of_a_provider_behind_its_finish(make_bridge):
    bridge = make_bridge({"rude": provider(yields_after_the_end)})
    assert (await bridge.generate("rude", ASK)).text == "some"


async def never_yields(request, context):
    await asyncio.Event().wait()
    yield


async def falls_silent(request, context):
    yield TextDelta("some")
    await asyncio.Event().wait()


async def will_not_let_go(request, context):
    """Ignore being cancelled, as a ``while True: try`` does."""
    yield TextDelta("some")
    for _ in range(20):
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            continue


async def answers_never(request, context):
    return await asyncio.Event().wait()


SILENT = [never_yields, falls_silent, will_not_let_go, answers_never]


@pytest.mark.parametrize("stream", SILENT, ids=lambda function: function.__name__)
async def test_a_provider_that_never_returns(make_bridge, fails, stream):
    """Nothing ever comes, so the clock can only pass."""
    bridge = make_bridge({"rude": provider(stream)})
    async with asyncio.timeout(40):
        with pytest.raises(TimedOut) as caught:
            await bridge.generate("rude", SHORT)
    fails(caught.value, TimedOut, connection="rude")


class Whole:
    info = ProviderInfo(title="whole")
    answer: Any = None

    @hookimpl
    async def generate(self, request, context):
        return self.answer


@pytest.mark.parametrize("answer", [None, "text", {"text": "x"}, [TextDelta("x")], TextDelta("x"), Result])
async def test_a_whole_answer_of_the_wrong_type(make_bridge, fails, answer):
    bridge = make_bridge({"rude": type("Rude", (Whole,), {"answer": answer})})
    with pytest.raises(PluginError) as caught:
        await bridge.generate("rude", ASK)
    fails(caught.value, PluginError, connection="rude")
    assert "Result" in str(caught.value)


@pytest.mark.parametrize("answer", [None, 7, "m", ["m"], [None], {"m": 1}])
async def test_a_model_list_of_the_wrong_type(make_bridge, fails, answer):
    class Rude(Good):
        @hookimpl
        async def list_models(self, context):
            return answer

    bridge = make_bridge({"rude": Rude, "good": Good})
    listing = await bridge.list_models()
    fails(listing.errors["rude"], PluginError, connection="rude")
    assert isinstance(listing.errors["good"], UnsupportedFeature)
    assert (await bridge.generate("rude", ASK)).text == "fine"  # conversations do without


# -- before the first call ---------------------------------------------------------------------------------


def failing_import(error: BaseException) -> Found:
    """Return an entry point whose module raises when it is imported."""

    class Finder:
        def find_spec(self, name: str, *_: object) -> Any:
            if name != "lmbridge_rude":
                return None
            import importlib.machinery

            return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]

        def create_module(self, _: object) -> None:
            return None

        def exec_module(self, _: types.ModuleType) -> None:
            raise error

    sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
    return Found(PROVIDER_GROUP, "rude", "lmbridge_rude:Rude", "lmbridge-rude", "1.0")


@pytest.fixture
def unwound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


@pytest.mark.usefixtures("unwound")
@pytest.mark.parametrize(
    "error",
    [
        ImportError("no module named 'torchvision'", name="torchvision"),
        ModuleNotFoundError("No module named 'acme'", name="acme"),
        SyntaxError("invalid syntax"),
        ValueError("x" * 100_000),
        OSError("libcuda.so.1: cannot open shared object file"),
        RecursionError(),
        AssertionError(),
        AttributeError("module 'x' has no attribute 'y'"),
        GeneratorExit(),
        SystemExit("a plugin ends the process"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_plugin_that_raises_at_import(make_plugins, fails, off_the_loop, error):
    from lmbridge import Bridge

    good = make_plugins({"good": Good})._providers["good"].found
    plugins = Plugins([failing_import(error), good], environ={})
    settings = off_the_loop(
        Settings.load, environ={}, env_file=None, config_file=None, providers=plugins.providers
    )
    async with Bridge(settings=settings, plugins=plugins) as bridge:
        with pytest.raises(LMBridgeError) as caught:
            await bridge.generate("rude", ASK)
        fails(caught.value, PluginError, connection="rude")
        assert "'rude'" in caught.value.message
        assert (await bridge.generate("good", ASK)).text == "fine"
        (state,) = [state for state in plugins.states if state.name == "rude"]
        assert state.status == "failed"
        assert state.problem
        assert state.hint


def raising(error: BaseException) -> type:
    class Rude(Good):
        def __init__(self) -> None:
            raise error

    return Rude


class NoInfo:
    @hookimpl
    async def stream(self, request, context):
        yield


class NoHooks:
    info = ProviderInfo(title="none")


class OldAPI(Good):
    info = ProviderInfo(title="old", api=99)


CLASSES = {
    "raises when it is made": raising(ValueError("no")),
    "ends the process when it is made": raising(SystemExit(3)),
    "wants arguments": type("Wants", (Good,), {"__init__": lambda self, key: None}),
    "has no info": NoInfo,
    "has no hooks": NoHooks,
    "is of another API": OldAPI,
    "is no class": Good(),
    "is a number": 7,
    "is nothing": None,
    "is a module": asyncio,
}


@pytest.mark.parametrize("name", CLASSES)
async def test_a_plugin_that_cannot_be_made(make_bridge, fails, name):
    bridge = make_bridge({"rude": CLASSES[name], "good": Good})
    with pytest.raises(LMBridgeError) as caught:
        await bridge.generate("rude", ASK)
    fails(caught.value, PluginError, connection="rude")
    assert (await bridge.generate("good", ASK)).text == "fine"
