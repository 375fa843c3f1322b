"""Which plugin answers a call, what middleware may do, and what a broken plugin costs."""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import AsyncIterator

import pytest

import lmbridge
from lmbridge import (
    Finish,
    Message,
    Model,
    PluginError,
    ProviderInfo,
    Request,
    Result,
    TextDelta,
    UnknownConnection,
    UnknownProvider,
    UnsupportedFeature,
    hookimpl,
)
from lmbridge.discovery import PROVIDER_GROUP, Found
from lmbridge.plugins import Plugins

ASK = Request(model="m", messages=[Message.user("hi")])


def provider(answer: str, **extra):
    """Return a provider class that streams ``answer``."""

    class Echo:
        info = ProviderInfo(title=answer)

        @hookimpl
        async def stream(self, request, context):
            yield TextDelta(f"{answer} for {context.connection.name}")
            yield Finish("stop", model=request.model)

        @hookimpl
        async def list_models(self, context):
            return [Model(id=f"{answer}-1")]

    for name, value in extra.items():
        setattr(Echo, name, value)
    return Echo


# -- dispatch --------------------------------------------------------------------------------------------


async def test_the_connection_that_is_named_answers_whatever_else_is_registered(make_bridge):
    bridge = make_bridge({"one": provider("1"), "two": provider("2"), "three": provider("3")})
    for name, answer in (("three", "3"), ("one", "1"), ("two", "2"), ("one", "1")):
        assert (await bridge.generate(name, ASK)).text == f"{answer} for {name}"


async def test_two_connections_of_one_provider_have_instances_of_their_own(make_bridge):
    made = []
    echo = provider("x", __init__=lambda self: made.append(self))  # noqa: PLW0108 - a builtin would not be bound
    bridge = make_bridge({"acme": echo}, connections={"left": {"provider": "acme"}})
    await bridge.generate("left", ASK)
    await bridge.generate("acme", ASK)
    await bridge.generate("left", ASK)
    used = {id(item) for item in made}
    assert len(used) == len(made)
    assert (await bridge.connections()) == ("acme", "left")


async def test_authors_may_make_instances_that_are_equal_or_unhashable(make_bridge):
    odd = {"__eq__": lambda self, other: True, "__hash__": None}
    bridge = make_bridge({"one": provider("1", **odd), "two": provider("2", **odd)})
    assert (await bridge.generate("one", ASK)).text == "1 for one"
    assert (await bridge.generate("two", ASK)).text == "2 for two"


async def test_properties_of_the_author_are_never_run(make_bridge):
    def boom(self):
        raise AssertionError("a property was run")

    bridge = make_bridge({"acme": provider("x", client=property(boom))})
    assert (await bridge.generate("acme", ASK)).text == "x for acme"


async def test_specname_reaches_the_right_provider(make_bridge):
    class Named:
        info = ProviderInfo(title="named")

        @hookimpl(specname="generate")
        async def answer(self, request):
            return Result(text="named")

    class Other(Named):
        @hookimpl(specname="generate")
        async def answer(self, request):
            return Result(text="other")

    bridge = make_bridge({"named": Named, "other": Other})
    assert (await bridge.generate("other", ASK)).text == "other"
    assert (await bridge.generate("named", ASK)).text == "named"


async def test_a_provider_with_generate_only_can_be_streamed(make_bridge):
    class Whole:
        info = ProviderInfo(title="whole")

        @hookimpl
        async def generate(self, request, context):
            return Result(text="all at once", reasoning="hm", model="m", notes=("a note",))

    async with make_bridge({"whole": Whole}).stream("whole", ASK) as events:
        seen = [event async for event in events]
    assert seen[0] == lmbridge.ReasoningDelta("hm")
    assert seen[1] == TextDelta("all at once")
    assert isinstance(seen[-1], Finish)
    assert seen[-1].notes == ("a note",)


async def test_one_call_goes_through_exactly_one_of_generate_and_stream(make_bridge):
    calls = []

    class Both:
        info = ProviderInfo(title="both")

        @hookimpl
        async def generate(self, request, context):
            calls.append("generate")
            return Result(text="g", model="m")

        @hookimpl
        async def stream(self, request, context):
            calls.append("stream")
            yield TextDelta("s")
            yield Finish("stop")

    bridge = make_bridge({"both": Both})
    assert (await bridge.generate("both", ASK)).text == "g"
    async with bridge.stream("both", ASK) as events:
        assert await anext(events) == TextDelta("s")
    assert calls == ["generate", "stream"]


async def test_an_iterator_returned_by_a_coroutine_is_read_too(make_bridge):
    class Late:
        info = ProviderInfo(title="late")

        @hookimpl
        async def stream(self, request, context):
            async def inner() -> AsyncIterator[lmbridge.Event]:
                yield TextDelta("late")
                yield Finish("stop")

            return inner()

    assert (await make_bridge({"late": Late}).generate("late", ASK)).text == "late"


async def test_a_hook_that_the_provider_lacks_is_refused_even_with_a_wrapper_around_it(make_bridge):
    class Around:
        @hookimpl(wrapper=True)
        def embed(self, request, context):
            return (yield)

    bridge = make_bridge({"acme": provider("x")}, middleware={"around": Around})
    with pytest.raises(UnsupportedFeature, match="has no 'embed'"):
        await bridge.embed("acme", lmbridge.EmbedRequest(texts=("a",)))


async def test_an_unknown_connection_is_named_with_near_matches(make_bridge):
    with pytest.raises(UnknownConnection) as caught:
        await make_bridge({"workstation": provider("x")}).generate("workstatoin", ASK)
    assert "workstation" in caught.value.hint


# -- middleware ------------------------------------------------------------------------------------------


async def test_middleware_wraps_every_connection_and_sees_single_events(make_bridge):
    class Lists:
        info = ProviderInfo(title="lists")

        @hookimpl
        async def stream(self, request, context):
            yield [TextDelta("a"), TextDelta("b")]
            yield [Finish("stop")]

    class Loud:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            inner = yield

            async def outer():
                async for event in inner:
                    yield TextDelta(event.text.upper()) if isinstance(event, TextDelta) else event

            return outer()

    bridge = make_bridge({"lists": Lists, "plain": provider("x")}, middleware={"loud": Loud})
    assert (await bridge.generate("lists", ASK)).text == "AB"
    assert (await bridge.generate("plain", ASK)).text == "X FOR PLAIN"


async def test_the_core_closes_the_providers_iterator_though_a_middleware_forgets_it(make_bridge):
    closed = []

    class Endless:
        info = ProviderInfo(title="endless")

        @hookimpl
        async def stream(self, request, context):
            try:
                while True:
                    yield TextDelta("x")
            finally:
                closed.append(True)

    class Forgetful:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            inner = yield
            self.kept = inner

            async def outer():
                yield await anext(inner)
                yield Finish("stop")

            return outer()

    bridge = make_bridge({"endless": Endless}, middleware={"forgetful": Forgetful})
    assert (await bridge.generate("endless", ASK)).text == "x"
    assert closed == [True]


@pytest.mark.parametrize("moment", ["before", "after", "later"])
async def test_a_middleware_that_raises_fails_the_call_with_its_own_name(make_bridge, moment):
    class Broken:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            if moment == "before":
                raise ValueError("oops")
            inner = yield
            if moment == "after":
                raise ValueError("oops")

            async def outer():
                async for event in inner:
                    raise ValueError("oops")
                    yield event

            return outer()

    bridge = make_bridge({"acme": provider("x")}, middleware={"broken": Broken})
    with pytest.raises(PluginError, match="'broken' raised ValueError: oops"):
        await bridge.generate("acme", ASK)


async def test_a_provider_that_raises_through_a_middleware_is_still_the_one_to_blame(make_bridge):
    class Bad:
        info = ProviderInfo(title="bad")

        @hookimpl
        async def stream(self, request, context):
            yield TextDelta("x")
            raise KeyError("secret of the provider")

    class Around:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            inner = yield

            async def outer():
                async for event in inner:
                    yield event

            return outer()

    bridge = make_bridge({"bad": Bad}, middleware={"around": Around})
    with pytest.raises(PluginError, match="'bad' raised KeyError") as caught:
        await bridge.generate("bad", ASK)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_middleware_that_would_answer_itself_is_refused(make_plugins):
    class Hijacker:
        @hookimpl
        def generate(self, request, context):
            return None

    plugins = make_plugins({"acme": provider("x")}, {"hijacker": Hijacker})
    state = next(item for item in plugins.states if item.name == "hijacker")
    assert state.status == "failed"
    assert "wrapper=True" in state.problem
    assert not plugins.has_middleware


async def test_middleware_offers_presets_but_cannot_change_ours(make_bridge):
    class More:
        @hookimpl
        def presets(self):
            return {"mine": lmbridge.Options(temperature=1.5), "precise": lmbridge.Options(temperature=2)}

    seen = {}

    class Spy(provider("x")):
        @hookimpl
        async def stream(self, request, context):
            seen["temperature"] = request.options.temperature
            yield Finish("stop")

    bridge = make_bridge({"spy": Spy}, middleware={"more": More})
    await bridge.generate("spy", ASK.replace(preset="mine"))
    assert seen["temperature"] == 1.5
    await bridge.generate("spy", ASK.replace(preset="precise"))
    assert seen["temperature"] == 0.1


# -- broken plugins --------------------------------------------------------------------------------------


class Misspelt(provider("x")):
    @hookimpl
    async def generete(self, request, context):
        return None


class Unmarked:
    info = ProviderInfo(title="unmarked")

    async def stream(self, request, context):
        yield Finish("stop")


class KeywordOnly:
    info = ProviderInfo(title="keywords")

    @hookimpl
    async def generate(self, *, request):
        return None


class Stranger:
    info = ProviderInfo(title="stranger")

    @hookimpl
    async def generate(self, request, session):
        return None


class Nothing:
    info = ProviderInfo(title="nothing")


class NoInfo:
    @hookimpl
    async def generate(self, request):
        return None


class FromTheFuture(provider("x")):
    info = ProviderInfo(title="future", api=2)


class NeedsArguments(provider("x")):
    def __init__(self, key):
        pass


@pytest.mark.parametrize(
    ("broken", "problem", "hint"),
    [
        (Misspelt, "no hook of lmbridge", "did you mean 'generate'"),
        (Unmarked, "not marked as a hook", "@lmbridge.hookimpl"),
        (KeywordOnly, "pluggy cannot see", "def generate(self, request, context)"),
        (Stranger, "unknown argument 'session'", "def generate(self, request, context)"),
        (Nothing, "neither 'generate' nor 'stream'", ""),
        (NoInfo, "has no 'info'", "ProviderInfo"),
        (FromTheFuture, "hook contract 2", "update lmbridge"),
        (NeedsArguments, "raised TypeError", "bug of the plugin"),
        ("not a class", "is str, not a class", "entry point name a class"),
    ],
)
async def test_a_broken_provider_is_told_what_mends_it_and_stops_nobody_else(
    make_bridge, broken, problem, hint
):
    bridge = make_bridge({"broken": broken, "good": provider("x")})
    with pytest.raises(PluginError) as caught:
        await bridge.generate("broken", ASK)
    assert problem in caught.value.message
    assert hint in caught.value.hint
    assert (await bridge.generate("good", ASK)).text == "x for good"
    listing = await bridge.list_models()
    assert [model.id for model in listing.models] == ["x-1"]
    assert list(listing.errors) == ["broken"]
    state = next(item for item in (await bridge.plugins()).states if item.name == "broken")
    assert (state.status, state.problem) == ("failed", caught.value.message)


async def test_an_import_error_names_what_is_missing(make_bridge):
    plugins = Plugins([Found(PROVIDER_GROUP, "acme", "no_such_package.sub:Acme", "lmbridge-acme", "1")])
    with pytest.raises(PluginError, match="cannot be imported") as caught:
        plugins.info("acme")
    assert "lmbridge-acme" in caught.value.hint
    assert "no_such_package" in caught.value.hint


def test_nothing_is_imported_before_its_first_use(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lazy_acme.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    plugins = Plugins([Found(PROVIDER_GROUP, "acme", "lazy_acme:Acme", "acme", "1")], environ={})
    assert plugins.providers == ("acme",)
    assert plugins.states[0].status == "available"
    assert "lazy_acme" not in sys.modules
    with pytest.raises(PluginError, match="RuntimeError: imported"):
        plugins.info("acme")


def test_a_failed_load_is_remembered_for_a_while_and_then_tried_again(make_plugins):
    class Flaky(provider("x")):
        tries = 0

        def __init__(self):
            type(self).tries += 1
            if type(self).tries == 1:
                raise OSError("not yet")

    now = [0.0]
    plugins = make_plugins({"flaky": Flaky}, clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(PluginError, match="not yet"):
            plugins.info("flaky")
    assert Flaky.tries == 1
    now[0] = 31.0
    assert plugins.info("flaky").title == "x"


def test_retry_forgets_a_failure_at_once(make_plugins):
    class Flaky(provider("x")):
        tries = 0

        def __init__(self):
            type(self).tries += 1
            if type(self).tries == 1:
                raise OSError("not yet")

    plugins = make_plugins({"flaky": Flaky})
    with pytest.raises(PluginError):
        plugins.info("flaky")
    plugins.retry()
    assert plugins.info("flaky").title == "x"


def test_of_two_distributions_with_one_name_the_first_in_order_wins_and_the_other_is_reported():
    one = Found(PROVIDER_GROUP, "acme", "a:Acme", "acme-a", "1")
    two = Found(PROVIDER_GROUP, "acme", "b:Acme", "acme-b", "1")
    states = Plugins([one, two], environ={}).states
    assert [(item.distribution, item.status) for item in states] == [
        ("acme-a", "available"),
        ("acme-b", "shadowed"),
    ]
    assert "uninstall" in states[1].hint
    with pytest.raises(PluginError, match="acme-b"):
        Plugins([one, two], environ={"LMBRIDGE_STRICT_PLUGINS": "1"})


def test_strict_plugins_raises_what_would_be_recorded(make_plugins):
    class Hijacker:
        @hookimpl
        def stream(self, request, context):
            return None

    with pytest.raises(PluginError, match="hijacker"):
        make_plugins({}, {"hijacker": Hijacker}, environ={"LMBRIDGE_STRICT_PLUGINS": "true"})


@pytest.mark.parametrize(
    ("environ", "enabled"),
    [
        ({"LMBRIDGE_PLUGINS": "one"}, ("one",)),
        ({"LMBRIDGE_PLUGINS": ""}, ()),
        ({"LMBRIDGE_PLUGINS_DISABLE": "one, three"}, ("two",)),
        ({"LMBRIDGE_PLUGINS": "one,two", "LMBRIDGE_PLUGINS_DISABLE": "one"}, ("two",)),
        ({}, ("one", "two", "three")),
    ],
)
def test_the_environment_decides_which_plugins_take_part(make_plugins, environ, enabled):
    names = ("one", "two", "three")
    plugins = make_plugins({name: provider(name) for name in names}, environ=environ)
    assert plugins.providers == enabled
    for name in set(names) - set(enabled):
        with pytest.raises(UnknownProvider, match="disabled by LMBRIDGE_PLUGINS"):
            plugins.info(name)


def test_a_disabled_plugin_is_never_imported(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "disabled_middleware.py").write_text("raise RuntimeError", encoding="utf-8")
    found = Found("lmbridge.plugins", "mw", "disabled_middleware:M", "mw", "1")
    Plugins([found], environ={"LMBRIDGE_PLUGINS_DISABLE": "mw"})
    assert "disabled_middleware" not in sys.modules


def test_threads_that_load_at_once_get_one_instance(make_plugins):
    made = []
    gate = threading.Barrier(8)
    plugins = make_plugins({"acme": provider("x")})
    plugins.info("acme")

    def load():
        gate.wait()
        made.append(plugins.open("acme", "acme"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(adapter) for adapter in made}) == 1


@pytest.mark.parametrize("value", [3, None])
async def test_a_hook_that_returns_the_wrong_thing_is_a_plugin_error(make_bridge, value):
    class Wrong:
        info = ProviderInfo(title="wrong")

        @hookimpl
        def stream(self, request, context):
            return value

    with pytest.raises(PluginError, match=r"not an async iterator"):
        await make_bridge({"wrong": Wrong}).generate("wrong", ASK)


@pytest.mark.parametrize("event", ["text", 3, None, {"type": "text"}])
async def test_an_event_of_the_wrong_type_is_a_plugin_error(make_bridge, event):
    class Wrong:
        info = ProviderInfo(title="wrong")

        @hookimpl
        async def stream(self, request, context):
            yield event

    with pytest.raises(PluginError, match="where an event was expected"):
        await make_bridge({"wrong": Wrong}).generate("wrong", ASK)


# -- middleware that breaks the contract ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "answer", "expected"),
    [
        ("stream", None, "an async iterator"),
        ("stream", 3, "an async iterator"),
        ("embed", None, "an awaitable"),
    ],
)
async def test_a_middleware_that_returns_the_wrong_thing_is_the_one_to_blame(
    make_bridge, hook, answer, expected
):
    async def embed(self, request, context):
        return lmbridge.Embeddings(vectors=())

    def wrong(self, request, context):
        yield
        return answer

    wrapper = type("Wrapper", (), {hook: hookimpl(wrapper=True)(wrong)})
    bridge = make_bridge({"acme": provider("x", embed=hookimpl(embed))}, middleware={"wrong": wrapper})
    request = lmbridge.EmbedRequest(texts=["a"])
    asking = bridge.embed("acme", request) if hook == "embed" else bridge.generate("acme", ASK)
    with pytest.raises(PluginError, match=f"middleware 'wrong' returned .*, not {expected}"):
        await asking


async def test_a_middleware_may_return_anything_that_can_be_iterated(make_bridge):
    class Events:
        def __init__(self, inner):
            self.inner = inner

        async def __aiter__(self):
            async for event in self.inner:
                yield event

    class Around:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            return Events((yield))

    bridge = make_bridge({"acme": provider("x")}, middleware={"around": Around})
    assert (await bridge.generate("acme", ASK)).text == "x for acme"


async def test_a_middleware_may_answer_without_awaiting_the_provider(make_bridge):
    class Whole:
        info = ProviderInfo(title="whole")
        begun: list = []  # noqa: RUF012

        @hookimpl
        async def generate(self, request, context):
            self.begun.append(True)
            return Result(text="fresh")

    class Cache:
        @hookimpl(wrapper=True)
        def generate(self, request, context):
            yield

            async def outer():
                return Result(text="cached")

            return outer()

    bridge = make_bridge({"whole": Whole}, middleware={"cache": Cache})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (await bridge.generate("whole", ASK)).text == "cached"
        gc.collect()
    assert [str(item.message) for item in caught] == []
    assert Whole.begun == []


async def test_a_late_iterator_that_a_middleware_drops_leaves_no_warning(make_bridge):
    class Late:
        info = ProviderInfo(title="late")

        @hookimpl
        async def stream(self, request, context):
            raise AssertionError("never begun")

    class Cache:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            yield

            async def outer():
                yield Finish("stop")

            return outer()

    bridge = make_bridge({"late": Late}, middleware={"cache": Cache})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await bridge.generate("late", ASK)
        gc.collect()
    assert [str(item.message) for item in caught] == []


async def test_a_middleware_may_answer_in_the_place_of_an_error(make_bridge):
    class Bad:
        info = ProviderInfo(title="bad")

        @hookimpl
        def stream(self, request, context):
            raise ValueError("at once")

    class Catches:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            try:
                return (yield)
            except PluginError as error:
                text = error.message

            async def outer():
                yield TextDelta(text)
                yield Finish("stop")

            return outer()

    bridge = make_bridge({"bad": Bad}, middleware={"catches": Catches})
    assert "ValueError: at once" in (await bridge.generate("bad", ASK)).text


async def test_a_middleware_that_lets_an_error_pass_is_not_blamed_for_it(make_bridge):
    class Bad:
        info = ProviderInfo(title="bad")

        @hookimpl
        def stream(self, request, context):
            raise ValueError("at once")

    class Around:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            return (yield)

    with pytest.raises(PluginError, match="'bad' raised ValueError"):
        await make_bridge({"bad": Bad}, middleware={"around": Around}).generate("bad", ASK)


def _returns(self, request, context):
    return None


async def _async_yields(self, request, context):
    yield


@pytest.mark.parametrize("function", [_returns, _async_yields])
def test_a_wrapper_that_is_no_generator_function_is_refused_when_it_is_loaded(make_plugins, function):
    wrapper = type("Wrapper", (), {"stream": hookimpl(wrapper=True)(function)})
    (state,) = make_plugins({}, {"wrong": wrapper}).states
    assert state.status == "failed"
    assert "no generator function" in state.problem
    assert "def stream(self, request, context)" in state.hint


@pytest.mark.parametrize("yields", [0, 2])
async def test_a_wrapper_yields_once(make_bridge, yields):
    class Wrong:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            for _ in range(yields):
                yield

    bridge = make_bridge({"acme": provider("x")}, middleware={"wrong": Wrong})
    with pytest.raises(PluginError, match="returns before its yield" if not yields else "more than once"):
        await bridge.generate("acme", ASK)


async def test_wrappers_nest_in_the_order_that_they_ask_for(make_bridge):
    order = []

    def wrapper(name, **options):
        def stream(self, request, context):
            order.append(name)
            return (yield)

        return type(name, (), {"stream": hookimpl(wrapper=True, **options)(stream)})

    middleware = {
        "last": wrapper("last", trylast=True),
        "middle": wrapper("middle"),
        "first": wrapper("first", tryfirst=True),
    }
    await make_bridge({"acme": provider("x")}, middleware=middleware).generate("acme", ASK)
    assert order == ["first", "middle", "last"]


async def test_a_middleware_wraps_listings(make_bridge):
    class Hides:
        @hookimpl(wrapper=True)
        def list_models(self, context):
            inner = yield

            async def outer():
                return [model for model in await inner if "x" not in model.id]

            return outer()

    bridge = make_bridge({"one": provider("x"), "two": provider("y")}, middleware={"hides": Hides})
    assert [model.id for model in (await bridge.list_models()).models] == ["y-1"]


# -- presets -------------------------------------------------------------------------------------------


class Good:
    @hookimpl
    def presets(self):
        return {"mine": lmbridge.Options(temperature=1.5)}


class Second:
    @hookimpl
    def presets(self):
        return {"mine": lmbridge.Options(temperature=0), "other": lmbridge.Options(seed=1)}


def offering(answer):
    def presets(self):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return type("Offers", (), {"presets": hookimpl(presets)})


@pytest.mark.parametrize("answer", [ValueError("x"), None, 3, {"a": {"temperature": 1}}, ["a"]])
async def test_wrong_presets_cost_only_their_author(make_bridge, make_plugins, answer):
    bridge = make_bridge({"acme": provider("x")}, middleware={"good": Good, "wrong": offering(answer)})
    assert (await bridge.presets())["mine"].temperature == 1.5
    assert (await bridge.generate("acme", ASK.replace(preset="mine"))).text == "x for acme"
    state = next(item for item in (await bridge.plugins()).states if item.name == "wrong")
    assert (state.status, "'wrong'" in state.problem) == ("loaded", True)
    strict = make_plugins({}, {"wrong": offering(answer)}, environ={"LMBRIDGE_STRICT_PLUGINS": "1"})
    with pytest.raises(PluginError, match="'wrong'"):
        strict.presets()


async def test_of_two_presets_with_one_name_the_first_registered_counts(make_bridge):
    bridge = make_bridge({"acme": provider("x")}, middleware={"a": Good, "b": Second})
    presets = await bridge.presets()
    assert presets["mine"].temperature == 1.5
    assert presets["other"].seed == 1


def test_presets_alone_keep_no_call_from_the_short_way(make_plugins):
    assert not make_plugins({}, {"good": Good}).has_middleware


async def test_a_provider_cannot_offer_presets(make_bridge):
    offers = provider("x", presets=hookimpl(lambda self: {}))
    bridge = make_bridge({"acme": offers, "good": provider("y")})
    with pytest.raises(PluginError, match="'presets', which is for middleware"):
        await bridge.generate("acme", ASK)
    assert "precise" in await bridge.presets()


# -- errors and instances ------------------------------------------------------------------------------


async def test_a_failed_load_is_told_for_the_connection_that_asks(make_bridge):
    connections = {"left": {"provider": "acme"}, "right": {"provider": "acme"}}
    bridge = make_bridge({"acme": "not a class"}, connections=connections)
    errors = []
    for name in ("left", "right", "left"):
        with pytest.raises(PluginError) as caught:
            await bridge.generate(name, ASK)
        errors.append(caught.value)
    assert [error.connection for error in errors] == ["left", "right", "left"]
    assert len(set(map(id, errors))) == 3


async def test_a_provider_is_instantiated_once_for_each_connection(make_bridge):
    made = []
    echo = provider("x", __init__=lambda self: made.append(self))  # noqa: PLW0108 - a builtin would not be bound
    bridge = make_bridge({"acme": echo}, connections={"left": {"provider": "acme"}})
    for name in ("left", "acme", "left"):
        await bridge.generate(name, ASK)
    assert len(made) == 2


def test_a_slow_constructor_holds_up_no_call(make_plugins):
    begun, go = threading.Event(), threading.Event()

    class Slow(provider("slow")):
        instances = 0

        def __init__(self):
            Slow.instances += 1
            if Slow.instances > 1:
                begun.set()
                go.wait(10)

    plugins = make_plugins({"slow": Slow, "quick": provider("q")})
    plugins.open("one", "slow")
    plugins.open("quick", "quick")
    opening = threading.Thread(target=lambda: plugins.open("two", "slow"))
    opening.start()
    assert begun.wait(10)

    async def call():
        return await plugins.call("list_models", "quick", context=_NoContext())

    called = threading.Thread(target=lambda: asyncio.run(call()))
    called.start()
    called.join(30)
    waited = called.is_alive()
    go.set()
    opening.join(10)
    called.join(10)
    assert not waited


class _NoContext:
    def __init__(self):
        self.owned = []


def test_a_connection_that_changes_its_provider_gets_the_other_one(make_plugins):
    plugins = make_plugins({"one": provider("1"), "two": provider("2")})
    first = plugins.open("acme", "one")
    second = plugins.open("acme", "two")
    assert (first.plugin, second.plugin) == ("one", "two")
    assert plugins.open("acme", "two") is second
