"""Terms that are remembered are those of the request, whatever came before it."""

import asyncio

import pytest

from lmbridge import InvalidRequest, LoadedInstance, Message, Model, Options, ProviderInfo, Request, Timeouts
from lmbridge.limits import limiter
from lmbridge.listings import Catalogue
from lmbridge.planning import Planner
from lmbridge.runtime import LoopResources

INFO = ProviderInfo(title="Test", options=frozenset({"temperature", "extra", "load", "stop", "seed"}))


def loaded(name, parallel):
    return Model(id=name, loaded=(LoadedInstance(id=name, parallel=parallel),))


class OnePlugin:
    """What a planner asks of the plugins."""

    names = frozenset({"stream"})
    has_middleware = False

    def open(self, name, provider):
        return self


class Bench:
    def __init__(self, make_connection):
        self.models = [loaded("a", 4), loaded("b", 1)]
        self.make_connection = make_connection
        self.connection = make_connection(base_url="http://127.0.0.1:1")
        self.info = INFO
        self.catalogue = Catalogue(self.listed)
        self.planner = Planner(OnePlugin(), self.catalogue, dict)
        self.resources = LoopResources(asyncio.get_running_loop())

    async def listed(self, connection, seconds):
        return self.models

    async def plan(self, options=None, *, model="a", **fields):
        request = Request(model=model, messages=[Message.user("x")], options=options or Options(), **fields)
        return await self.planner.plan(self.connection, self.info, request, self.resources, whole=False)

    async def sent(self, options, **fields):
        return (await self.plan(options, **fields)).request.options


@pytest.fixture
async def bench(make_connection):
    made = Bench(make_connection)
    yield made
    await made.resources.close()


@pytest.mark.parametrize("field", ["extra", "load"])
@pytest.mark.parametrize("adapted", [False, True])
async def test_a_mapping_that_is_changed_later_is_not_sent_for_another_request(bench, field, adapted):
    more = {"top_k": 5, "on_unsupported": "adapt"} if adapted else {}
    unsupported = more.pop("on_unsupported", None)
    mine = {"a": {"b": 1}}
    await bench.sent(Options(**{field: mine}, **more), on_unsupported=unsupported)
    mine["a"]["b"] = 2
    for value in (1, 2):
        sent = await bench.sent(Options(**{field: {"a": {"b": value}}}, **more), on_unsupported=unsupported)
        assert getattr(sent, field) == {"a": {"b": value}}
        assert sent.top_k is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (Options(temperature=1), Options(temperature=True)),
        (Options(load={"1": 2}), Options(load={1: 2})),
        (Options(seed=1), Options(seed=1.0)),
        (Options(extra={"a": None}), Options(temperature=float("nan"), extra={"a": None})),
    ],
)
async def test_what_only_looks_equal_is_checked(bench, good, bad):
    await bench.sent(good)
    with pytest.raises(InvalidRequest):
        await bench.sent(bad)


@pytest.mark.parametrize("values", [(b"abc", "YWJj"), (1, True), (None, float("inf")), (1, 1.0)])
async def test_what_only_looks_equal_is_sent_as_it_is(bench, values):
    for value in (*values, *values):
        sent = await bench.sent(Options(extra={"a": value}))
        assert sent.extra["a"] is value


async def test_a_connection_of_the_same_name_with_other_clocks_has_its_own(bench):
    for seconds in (5.0, 7.0):
        bench.connection = bench.make_connection(base_url="http://127.0.0.1:1", connect_timeout=seconds)
        plan = await bench.plan()
        assert plan.context().timeouts.connect == seconds


async def test_the_request_has_its_own_clocks(bench):
    for seconds in (5.0, 7.0, 5.0):
        plan = await bench.plan(timeouts=Timeouts(idle=seconds))
        assert plan.context().timeouts.idle == seconds


async def test_another_provider_has_its_own_terms(bench):
    assert (await bench.sent(Options(seed=1))).seed == 1
    bench.info = ProviderInfo(title="Other", options=frozenset())
    assert (await bench.sent(Options(seed=1), on_unsupported="adapt")).seed is None
    bench.info = INFO
    assert (await bench.sent(Options(seed=1), on_unsupported="adapt")).seed == 1


async def test_another_listing_has_its_own_terms(bench):
    assert (await bench.plan()).context().model.parallel == 4
    bench.models = [loaded("a", 2)]
    bench.catalogue.forget(bench.connection.identity)
    assert (await bench.plan()).context().model.parallel == 2


async def test_the_slots_are_those_of_the_model_that_is_called_now(bench):
    every = limiter(("calls", (bench.connection.name, bench.connection.base_url)))
    for model, slots in [("a", 4), ("b", 1), ("a", 4)]:
        await bench.plan(model=model)
        taken = [every.try_acquire() for _ in range(5)]
        for _ in range(sum(taken)):
            every.release()
        assert sum(taken) == slots


async def test_terms_do_not_fill_the_memory(bench):
    for number in range(600):
        await bench.plan(Options(seed=number, extra={"a": "x" * (8192 if number % 2 else 8)}))
    known = bench.planner._known
    assert len(known) <= 256
    assert all(len(key[-1]) <= 4096 for key in known)
