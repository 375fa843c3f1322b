"""The contract of a call: one finish, the end in every phase, retries, refusals, notes and statistics."""

import asyncio
import gc
from contextlib import asynccontextmanager

import pytest

import lmbridge
from lmbridge import (
    Cancelled,
    Capabilities,
    Finish,
    InvalidRequest,
    LMBridgeError,
    LoadedInstance,
    Message,
    Model,
    ModelNotFound,
    Options,
    PluginError,
    Progress,
    ProtocolError,
    ProviderInfo,
    RateLimited,
    ReasoningDelta,
    Request,
    ServerError,
    ServerUnreachable,
    Stats,
    TextDelta,
    TextPart,
    TimedOut,
    Timeouts,
    ToolCallDelta,
    ToolResultPart,
    UnsupportedFeature,
    Usage,
    hookimpl,
)

ASK = Request(model="m", messages=[Message.user("hi")])


class Scripted:
    """A provider whose stream is the script: events, exceptions to raise, or awaitable factories."""

    info = ProviderInfo(title="scripted")
    script: tuple = ()
    models: tuple = ()
    closed: list

    def __init__(self):
        type(self).closed = []

    @hookimpl
    async def stream(self, request, context):
        try:
            for step in self.script:
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    await step(context)
                else:
                    yield step
        finally:
            self.closed.append(True)

    @hookimpl
    async def list_models(self, context):
        return self.models


def scripted(*script, **fields):
    """Return a provider class that plays ``script``."""
    return type("Scripted", (Scripted,), {"script": script, **fields})


async def forever(_):
    await asyncio.Event().wait()


async def collect(bridge, request=ASK, name="acme", seen=None):
    """Read a stream; ``seen`` keeps what came before an error."""
    seen = [] if seen is None else seen
    async with bridge.stream(name, request) as events:
        async for event in events:
            seen.append(event)
    return seen


# -- the end of a stream -------------------------------------------------------------------------------


async def test_a_stream_without_a_finish_is_an_error_behind_what_came(make_bridge):
    bridge = make_bridge({"acme": scripted(TextDelta("par"), TextDelta("tial"))})
    seen = []
    with pytest.raises(ProtocolError, match="without a Finish"):
        await collect(bridge, seen=seen)
    assert seen == [TextDelta("par"), TextDelta("tial")]


async def test_nothing_passes_behind_the_finish_and_usage_comes_once_right_before_it(make_bridge):
    script = (Usage(1, 2), TextDelta("x"), Usage(3, 4), Finish("stop"), TextDelta("late"), Finish("length"))
    for acme in (scripted(*script), scripted(list(script))):
        seen = await collect(make_bridge({"acme": acme}))
        assert [type(event) for event in seen] == [TextDelta, Usage, Finish]
        assert seen[1] == Usage(3, 4)
        assert seen[2].reason == "stop"


async def test_generate_is_the_folded_stream(make_bridge):
    acme = scripted(
        Progress("loading model", 0.5),
        [ReasoningDelta("let me "), ReasoningDelta("see")],
        ToolCallDelta(0, "id", "look", '{"a":'),
        ToolCallDelta(0, arguments="1}"),
        TextDelta("yes"),
        Usage(1, 2),
        Finish("tool_calls", "m"),
    )
    bridge = make_bridge({"acme": acme})
    folded = await lmbridge.fold(aiter_of(await collect(bridge)))
    result = await bridge.generate("acme", ASK)
    assert (result.text, result.reasoning) == (folded.text, folded.reasoning) == ("yes", "let me see")
    assert result.tool_calls == folded.tool_calls == (lmbridge.ToolCallPart("id", "look", '{"a":1}'),)
    assert (result.usage, result.finish_reason) == (Usage(1, 2), "tool_calls")


async def aiter_of(items):
    for item in items:
        yield item


async def test_an_error_of_ours_keeps_its_class_and_learns_where_it_happened(make_bridge):
    acme = scripted(ServerError("boom for sekret-key", status=500))
    bridge = make_bridge({"acme": acme}, connections={"acme": {"api_key": "sekret-key"}})
    with pytest.raises(ServerError) as caught:
        await bridge.generate("acme", ASK)
    error = caught.value
    assert (error.connection, error.provider, error.status) == ("acme", "acme", 500)
    assert "sekret-key" not in f"{error} {error!r}"


@pytest.mark.parametrize("raised", [KeyError("x"), GeneratorExit(), RuntimeError("x")])
async def test_anything_else_that_a_provider_raises_is_its_bug(make_bridge, raised):
    class Raises:
        info = ProviderInfo(title="raises")

        @hookimpl
        def stream(self, request, context):
            return self

        def __aiter__(self):
            return self

        async def __anext__(self):
            raise raised

    with pytest.raises(PluginError, match=type(raised).__name__):
        await make_bridge({"acme": Raises}).generate("acme", ASK)


# -- leaving -------------------------------------------------------------------------------------------


BEFORE = [(Progress("loading model"),), (ReasoningDelta("r"),), (TextDelta("t"),)]


@pytest.mark.parametrize("cooperative", [True, False])
@pytest.mark.parametrize("before", [(), *BEFORE])
async def test_cancelling_the_reader_closes_the_provider_in_every_phase(make_bridge, before, cooperative):
    waiting = asyncio.Event()

    async def wait(_):
        waiting.set()
        await asyncio.Event().wait()

    acme = scripted(*before, wait, info=ProviderInfo(title="x", cooperative=cooperative))
    task = asyncio.create_task(collect(make_bridge({"acme": acme})))
    await asyncio.wait_for(waiting.wait(), 10)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()
    assert acme.closed == [True]


@pytest.mark.parametrize("cooperative", [True, False])
@pytest.mark.parametrize("moment", ["before the first step", "between two"])
async def test_a_cancellation_asked_for_while_the_reader_runs_is_no_error_of_the_plugin(
    make_bridge, moment, cooperative
):
    acme = scripted(TextDelta("one"), forever, info=ProviderInfo(title="x", cooperative=cooperative))
    bridge = make_bridge({"acme": acme})

    async def read():  # Ctrl-C during these lines does the same
        async with bridge.stream("acme", ASK) as events:
            if moment == "between two":
                await anext(events)
            asyncio.current_task().cancel()
            await anext(events)

    task = asyncio.create_task(read())
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()


@pytest.mark.parametrize("cooperative", [True, False])
@pytest.mark.parametrize("error", [None, ZeroDivisionError])
@pytest.mark.parametrize("before", BEFORE)
async def test_leaving_between_events_closes_the_provider(make_bridge, before, error, cooperative):
    acme = scripted(*before, forever, info=ProviderInfo(title="x", cooperative=cooperative))
    bridge = make_bridge({"acme": acme})

    async def leave():
        async with bridge.stream("acme", ASK) as events:
            assert await anext(events) == before[0]
            if error:
                raise error

    if error:
        with pytest.raises(error):
            await leave()
    else:
        await leave()
    assert acme.closed == [True]


@pytest.mark.parametrize("cooperative", [True, False])
async def test_leaving_while_another_task_reads_ends_that_task_with_cancelled(make_bridge, cooperative):
    waiting = asyncio.Event()

    async def wait(_):
        waiting.set()
        await asyncio.Event().wait()

    acme = scripted(wait, info=ProviderInfo(title="x", cooperative=cooperative))
    async with make_bridge({"acme": acme}).stream("acme", ASK) as events:
        reader = asyncio.ensure_future(anext(events))
        await asyncio.wait_for(waiting.wait(), 10)
    with pytest.raises(Cancelled):
        await asyncio.wait_for(reader, 10)
    assert acme.closed == [True]


async def test_a_stream_that_nobody_reads_sends_nothing(make_bridge):
    acme = scripted(TextDelta("x"))
    async with make_bridge({"acme": acme}).stream("acme", ASK):
        pass
    assert acme.closed == []


async def test_a_provider_that_will_not_end_does_not_hold_the_caller(make_bridge):
    release = asyncio.Event()

    async def stubborn(_):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    acme = scripted(TextDelta("x"), stubborn)
    bridge = make_bridge({"acme": acme})
    async with asyncio.timeout(30):
        async with bridge.stream("acme", ASK) as events:
            assert await anext(events) == TextDelta("x")
    assert acme.closed == []
    release.set()


async def test_the_reader_may_be_another_task_than_the_one_that_opened(make_bridge):
    bridge = make_bridge({"acme": scripted(TextDelta("x"), Finish("stop"))})
    stream = bridge.stream("acme", ASK)
    events = await asyncio.create_task(stream.__aenter__())
    first = await asyncio.create_task(anext(events))
    assert first == TextDelta("x")
    await asyncio.create_task(stream.__aexit__(None, None, None))


async def test_one_task_drives_the_providers_iterator_from_its_first_step_to_its_close(make_bridge):
    tasks = []

    class Watching:
        info = ProviderInfo(title="watching")

        @hookimpl
        async def stream(self, request, context):
            async with asyncio.timeout(30):  # breaks if another task leaves it
                try:
                    tasks.append(asyncio.current_task())
                    yield TextDelta("x")
                    await asyncio.Event().wait()
                finally:
                    tasks.append(asyncio.current_task())

    async with make_bridge({"acme": Watching}).stream("acme", ASK) as events:
        await anext(events)
    assert tasks[0] is tasks[1]
    assert tasks[0] is not asyncio.current_task()


@pytest.mark.parametrize("cooperative", [True, False])
async def test_closing_the_bridge_ends_running_calls_with_cancelled(make_bridge, cooperative):
    acme = scripted(TextDelta("x"), forever, info=ProviderInfo(title="x", cooperative=cooperative))
    bridge = make_bridge({"acme": acme})
    async with bridge.stream("acme", ASK) as events:
        await anext(events)
        await bridge.close()
        with pytest.raises(Cancelled):
            await anext(events)


async def test_no_task_is_left(make_bridge):
    bridge = make_bridge({"acme": scripted(TextDelta("x"), Finish("stop"))})
    before = asyncio.all_tasks()
    await bridge.generate("acme", ASK)
    async with bridge.stream("acme", ASK) as events:
        await anext(events)
    gc.collect()
    assert asyncio.all_tasks() == before


async def test_a_slow_reader_holds_the_provider_back(make_bridge):
    made = 0

    class Flood:
        info = ProviderInfo(title="flood")

        @hookimpl
        async def stream(self, request, context):
            nonlocal made
            for _ in range(100):
                made += 1
                yield [TextDelta("x")] * 1000
            yield Finish("stop")

    async with make_bridge({"acme": Flood}).stream("acme", ASK) as events:
        await anext(events)
        for _ in range(20):
            await asyncio.sleep(0)
        assert made < 10
        assert len([event async for event in events]) == 100_000
    assert made == 100


# -- retries -------------------------------------------------------------------------------------------


def flaky(*errors, first=()):
    """Return a provider that raises each error once, then answers."""
    left = list(errors)

    class Flaky:
        info = ProviderInfo(title="flaky")
        tries = 0

        @hookimpl
        async def stream(self, request, context):
            type(self).tries += 1
            for event in first:
                yield event
            if left:
                raise left.pop(0)
            yield TextDelta("ok")
            yield Finish("stop")

    return Flaky


@pytest.mark.parametrize(
    "error",
    [
        ServerUnreachable("refused", sent=False),
        RateLimited("slow down", status=429, retry_after=0),
        ServerError("busy", status=503, retry_after=0.001),
    ],
)
async def test_what_is_safe_is_tried_again(make_bridge, error):
    acme = flaky(error)
    assert (await make_bridge({"acme": acme}).generate("acme", ASK)).text == "ok"
    assert acme.tries == 2


@pytest.mark.parametrize(
    "error",
    [
        ServerUnreachable("dropped after it was sent"),
        RateLimited("no idea when", status=429),
        RateLimited("tomorrow", status=429, retry_after=86400),
        ServerError("broken", status=500, retry_after=0),
        ProtocolError("cut"),
    ],
)
async def test_what_is_not_safe_is_not_tried_again(make_bridge, error):
    acme = flaky(error)
    with pytest.raises(type(error)):
        await make_bridge({"acme": acme}).generate("acme", ASK)
    assert acme.tries == 1


async def test_nothing_is_tried_again_once_the_provider_has_spoken(make_bridge):
    acme = flaky(ServerUnreachable("refused", sent=False), first=(Progress("loading model"),))
    with pytest.raises(ServerUnreachable):
        await make_bridge({"acme": acme}).generate("acme", ASK)
    assert acme.tries == 1


# -- queue ---------------------------------------------------------------------------------------------


async def test_calls_beyond_the_limit_queue_in_order_and_say_so(make_bridge):
    gate, begun, running = asyncio.Event(), asyncio.Event(), []

    class Slow:
        info = ProviderInfo(title="slow")

        @hookimpl
        async def stream(self, request, context):
            running.append(request.model)
            begun.set()
            await gate.wait()
            yield Finish("stop")

    bridge = make_bridge({"queue-order": Slow}, connections={"queue-order": {"max_concurrency": 1}})
    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(collect(bridge, ASK.replace(model=str(number)), "queue-order")))
        await begun.wait()
        for _ in range(5):  # let it join the queue
            await asyncio.sleep(0)
    assert running == ["0"]
    gate.set()
    seen = await asyncio.gather(*tasks)
    assert running == ["0", "1", "2", "3"]
    assert seen[0][0] != Progress("queued")
    assert seen[3][0] == Progress("queued")


async def test_a_queued_call_can_be_cancelled_and_takes_no_slot(make_bridge):
    gate, begun = asyncio.Event(), asyncio.Event()

    class Slow:
        info = ProviderInfo(title="slow")

        @hookimpl
        async def stream(self, request, context):
            begun.set()
            await gate.wait()
            yield Finish("stop")

    bridge = make_bridge({"queue-cancel": Slow}, connections={"queue-cancel": {"max_concurrency": 1}})
    first = asyncio.create_task(collect(bridge, name="queue-cancel"))
    await begun.wait()
    async with bridge.stream("queue-cancel", ASK) as events:
        assert await anext(events) == Progress("queued")
    gate.set()
    await first
    await collect(bridge, name="queue-cancel")


@pytest.mark.parametrize(("images", "most"), [(True, 1), (False, 3)])
async def test_the_servers_own_slots_are_the_limit_and_pictures_have_their_own(make_bridge, images, most):
    inside, seen = 0, []

    class Server:
        info = ProviderInfo(title="server", image_concurrency=1)

        @hookimpl
        async def stream(self, request, context):
            nonlocal inside
            inside += 1
            seen.append(inside)
            for _ in range(20):
                await asyncio.sleep(0)
            inside -= 1
            yield Finish("stop")

        @hookimpl
        async def list_models(self, context):
            return [Model(id="m", loaded=(LoadedInstance(id="m", parallel=3),))]

    name = f"slots-{images}".lower()
    bridge = make_bridge({name: Server}, connections={name: {"base_url": "http://127.0.0.1:9"}})
    picture = [lmbridge.Image.from_data_url(PIXEL)] if images else []
    request = Request(model="m", messages=[Message.user("hi", images=picture)])
    await asyncio.gather(*(collect(bridge, request, name) for _ in range(8)))
    assert max(seen) == most


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


# -- refusals ------------------------------------------------------------------------------------------


class Modest(Scripted):
    info = ProviderInfo(
        title="Modest",
        options=frozenset({"temperature", "reasoning"}),
        capabilities=Capabilities(history=False, tools=False),
    )
    script = (Finish("stop"),)
    models = (
        Model(id="blind", capabilities=Capabilities(images=False, reasoning=False)),
        Model(id="thinker", capabilities=Capabilities(images=None, reasoning_levels=("low", "high"))),
    )


@pytest.mark.parametrize(
    ("request_", "feature", "text"),
    [
        (ASK.replace(options=Options(seed=1)), "seed", "Modest has no seed"),
        (ASK.replace(tools=[lmbridge.Tool("t")]), "tools", "Modest cannot send tools"),
        (
            ASK.replace(messages=[Message.user("a"), Message.assistant("b"), Message.user("c")]),
            "history",
            "Modest cannot send history",
        ),
        (
            ASK.replace(model="blind", messages=[Message.user("a", images=[PIXEL])]),
            "images",
            "'blind' cannot",
        ),
        (ASK.replace(model="blind", options=Options(reasoning="low")), "reasoning", "no reasoning to set"),
        (ASK.replace(model="thinker", options=Options(reasoning="on")), "reasoning", "only low, high"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_before_anything_is_sent(
    make_bridge, request_, feature, text
):
    modest = type("Modest", (Modest,), {})
    with pytest.raises(UnsupportedFeature, match=text) as caught:
        await make_bridge({"modest": modest}).generate("modest", request_)
    assert caught.value.features == (feature,)
    assert modest.closed == []


async def test_adapt_leaves_options_out_and_says_so_but_never_content(make_bridge):
    bridge = make_bridge({"modest": Modest})
    options = Options(seed=1, stop=("x",), temperature=0.5)
    result = await bridge.generate("modest", ASK.replace(options=options, on_unsupported="adapt"))
    assert result.notes == ("left out: Modest has no seed", "left out: Modest has no stop") or set(
        result.notes
    ) == {"left out: Modest has no stop", "left out: Modest has no seed"}
    with pytest.raises(UnsupportedFeature):
        await bridge.generate("modest", ASK.replace(tools=[lmbridge.Tool("t")], on_unsupported="adapt"))


async def test_the_connection_says_what_happens_by_default(make_bridge):
    connections = {"modest": {"on_unsupported": "adapt"}}
    result = await make_bridge({"modest": Modest}, connections=connections).generate(
        "modest", ASK.replace(options=Options(seed=1))
    )
    assert "seed" in result.notes[0]


async def test_unknown_is_tried(make_bridge):
    bridge = make_bridge({"modest": Modest})
    await bridge.generate(
        "modest", ASK.replace(model="thinker", messages=[Message.user("a", images=[PIXEL])])
    )


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request(model="m"), "no message"),
        (ASK.replace(options=Options(temperature=-1)), "temperature must be"),
        (ASK.replace(options=Options(temperature=float("nan"))), "temperature must be"),
        (ASK.replace(options=Options(top_p=2)), "top_p must be"),
        (ASK.replace(options=Options(max_tokens=0)), "max_tokens must be"),
        (ASK.replace(options=Options(stop=("",))), "stop must be"),
        (ASK.replace(messages=[Message("user", [ToolResultPart("1", "x")])]), "only there"),
        (ASK.replace(messages=[Message("tool", [TextPart("x")])]), "only there"),
        (ASK.replace(preset="zzzzzz"), "no preset 'zzzzzz'"),
        (ASK.replace(options=Options(reasoning="lots")), "reasoning must be"),
        (ASK.replace(preset="creativ"), "no preset 'creativ'"),
        (ASK.replace(tool_choice="missing"), "tool_choice 'missing'"),
        (ASK.replace(tools=[lmbridge.Tool("a"), lmbridge.Tool("a")]), "same name"),
        (ASK.replace(timeouts=Timeouts(idle=-1)), "idle timeout"),
    ],
)
async def test_what_contradicts_itself_is_refused(make_bridge, request_, text):
    with pytest.raises(InvalidRequest, match=text):
        await make_bridge({"acme": scripted(Finish("stop"))}).generate("acme", request_)


# -- the model -----------------------------------------------------------------------------------------


def choosing(*models):
    class Choosing(Scripted):
        seen: list = []  # noqa: RUF012
        models = ()

        @hookimpl
        async def stream(self, request, context):
            self.seen.append(request.model)
            yield Finish("stop")

    Choosing.models = models
    Choosing.seen = []
    return Choosing


async def test_no_name_means_the_loaded_model(make_bridge):
    acme = choosing(Model(id="a", loaded=()), Model(id="b", loaded=(LoadedInstance(id="b"),)))
    await make_bridge({"acme": acme}).generate("acme", ASK.replace(model=None))
    assert acme.seen == ["b"]


async def test_no_name_and_nothing_loaded_is_refused_because_it_would_load_one(make_bridge):
    acme = choosing(Model(id="a", loaded=()), Model(id="b", loaded=()))
    with pytest.raises(InvalidRequest) as caught:
        await make_bridge({"acme": acme}).generate("acme", ASK.replace(model=None))
    assert "a, b" in caught.value.hint


async def test_the_connection_may_name_the_model(make_bridge):
    acme = choosing()
    bridge = make_bridge({"acme": acme}, connections={"acme": {"model": "mine"}})
    await bridge.generate("acme", ASK.replace(model=None))
    assert acme.seen == ["mine"]


async def test_a_model_that_is_not_found_comes_with_near_matches(make_bridge):
    acme = scripted(
        ModelNotFound("no such model", model="qwen-4b"), models=(Model(id="qwen3-4b"), Model(id="x"))
    )
    with pytest.raises(ModelNotFound) as caught:
        await make_bridge({"acme": acme}).generate("acme", ASK)
    assert caught.value.near == ("qwen3-4b",)
    assert "qwen3-4b" in str(caught.value)


async def test_another_model_that_answers_is_noticed(make_bridge):
    result = await make_bridge({"acme": scripted(Finish("stop", "other"))}).generate("acme", ASK)
    assert result.notes == ("'other' answered instead of 'm'",)
    dated = ASK.replace(model="gpt-4o")
    result = await make_bridge({"acme": scripted(Finish("stop", "gpt-4o-2024-08-06"))}).generate(
        "acme", dated
    )
    assert result.notes == ()


# -- statistics and notes ------------------------------------------------------------------------------


async def test_our_clock_fills_in_what_the_server_does_not_tell_and_says_so(make_bridge):
    acme = scripted(
        TextDelta("x"), Usage(completion_tokens=10), Finish("stop", stats=Stats(time_to_first_token=9.0))
    )
    stats = (await make_bridge({"acme": acme}).generate("acme", ASK)).stats
    assert stats.time_to_first_token == 9.0
    assert stats.total_seconds is not None
    assert "time_to_first_token" not in stats.measured
    assert "total_seconds" in stats.measured


async def test_thinking_that_eats_the_budget_is_named(make_bridge):
    acme = scripted(ReasoningDelta("hmm"), Finish("length"))
    limited = ASK.replace(options=Options(max_tokens=1))
    result = await make_bridge({"acme": acme}).generate("acme", limited)
    assert "thinking used up max_tokens" in result.notes[0]
    result = await make_bridge({"acme": acme}).generate("acme", ASK)
    assert "thinking used up the room" in result.notes[0]
    acme = scripted(ReasoningDelta("hmm"), Finish("stop"))
    result = await make_bridge({"acme": acme}).generate("acme", ASK)
    assert "only thinking" in result.notes[0]
    acme = scripted(ReasoningDelta("hmm"), TextDelta("x"), Finish("length"))
    assert (await make_bridge({"acme": acme}).generate("acme", ASK)).notes == ()


async def test_notes_of_the_context_reach_the_finish_once(make_bridge):
    async def note(context):
        context.note("odd")
        context.note("odd")

    result = await make_bridge({"acme": scripted(note, Finish("stop", notes=("even",)))}).generate(
        "acme", ASK
    )
    assert result.notes == ("even", "odd")


# -- other operations ----------------------------------------------------------------------------------


async def test_loading_reports_progress_and_returns_the_copy(make_bridge):
    class Loader(Scripted):
        @hookimpl
        async def load_model(self, request, context):
            yield Progress("loading model", 0.5)
            yield LoadedInstance(id=request.model, context_length=4096)

    seen = []
    copy = await make_bridge({"acme": Loader}).load_model("acme", "m", on_progress=seen.append)
    assert seen == [Progress("loading model", 0.5)]
    assert copy == LoadedInstance(id="m", context_length=4096)


def test_a_listing_keeps_what_works_and_names_what_does_not(make_bridge, in_virtual_time):
    class Broken(Scripted):
        @hookimpl
        async def list_models(self, context):
            raise ServerUnreachable("refused")

    class Hangs(Scripted):
        @hookimpl
        async def list_models(self, context):
            await asyncio.Event().wait()

    async def main():
        bridge = make_bridge({"good": scripted(models=(Model(id="a"),)), "broken": Broken, "hangs": Hangs})
        return await bridge.list_models(timeout=5)

    listing = in_virtual_time(main)
    assert [(model.id, model.connection) for model in listing.models] == [("a", "good")]
    assert isinstance(listing.errors["broken"], ServerUnreachable)
    assert isinstance(listing.errors["hangs"], TimedOut)


async def test_health_of_an_absent_server_is_no_error(make_bridge):
    class Absent(Scripted):
        @hookimpl
        async def health(self, context):
            raise ServerUnreachable("refused")

    health = await make_bridge({"acme": Absent}).health("acme")
    assert (health.ok, health.detail) == (False, "refused")


async def test_batches_hold_what_the_stream_would_give(make_bridge):
    bridge = make_bridge({"acme": scripted([TextDelta("a"), TextDelta("b")], Finish("stop"))})
    async with bridge.stream_batches("acme", ASK) as batches:
        seen = [event async for batch in batches for event in batch]
    assert [type(event) for event in seen] == [TextDelta, TextDelta, Finish]


async def test_every_error_is_one_of_ours(make_bridge):
    for raised in (OSError("x"), LMBridgeError("y")):
        with pytest.raises(LMBridgeError):
            await make_bridge({"acme": scripted(raised)}).generate("acme", ASK)


@pytest.mark.parametrize("endless", [True, False])
async def test_no_limit_of_tokens_is_not_sent(make_bridge, endless):
    seen = []

    class Acme(scripted(Finish("stop"))):
        @hookimpl
        async def stream(self, request, context):
            seen.append(request.options.explicit())
            yield Finish("stop")

    options = Options(max_tokens=-1 if endless else 7)
    await make_bridge({"acme": Acme}).generate("acme", ASK.replace(options=options, preset="precise"))
    assert seen[0].get("max_tokens") == (None if endless else 7)


@pytest.mark.parametrize("feature", ["conversation", "integrations", "structured_output"])
async def test_content_that_a_provider_cannot_send_is_refused(make_bridge, feature):
    fields = {
        "conversation": {"previous_response_id": "1"},
        "integrations": {"integrations": ["mcp/x"]},
        "structured_output": {"response_format": lmbridge.ResponseFormat()},
    }[feature]
    info = ProviderInfo(title="x", capabilities=Capabilities(**{feature: False}))
    with pytest.raises(UnsupportedFeature, match="x cannot send") as caught:
        await make_bridge({"acme": scripted(Finish("stop"), info=info)}).generate(
            "acme", ASK.replace(**fields)
        )
    assert caught.value.features == (feature,)


async def test_a_model_that_is_known_by_another_name_is_the_same(make_bridge):
    model = Model(id="m", loaded=(LoadedInstance(id="copy"),), aliases=("m@q4",))
    acme = scripted(Finish("stop", "copy"), models=(model,))
    result = await make_bridge({"acme": acme}).generate("acme", ASK.replace(model="m@q4"))
    # A connection without an address is not asked for its models, so a level makes the model matter.
    asked = ASK.replace(model="m@q4", options=Options(reasoning="low"))
    again = await make_bridge({"acme": acme}).generate("acme", asked)
    assert result.notes == ("'copy' answered instead of 'm@q4'",)
    assert again.notes == ()


async def test_generate_must_answer_with_a_result(make_bridge):
    class Wrong:
        info = ProviderInfo(title="wrong")

        @hookimpl
        async def generate(self, request, context):
            return "text"

    with pytest.raises(PluginError, match="gave str where a Result was expected"):
        await make_bridge({"acme": Wrong}).generate("acme", ASK)


@pytest.mark.parametrize("cooperative", [True, False])
async def test_an_empty_list_of_events_is_no_event(make_bridge, cooperative):
    acme = scripted(
        [], [TextDelta("x")], [], [Finish("stop")], info=ProviderInfo(title="x", cooperative=cooperative)
    )
    seen = await collect(make_bridge({"acme": acme}))
    assert [type(event) for event in seen] == [TextDelta, Finish]


async def test_discarding_a_resource_of_the_context_opens_a_new_one(make_bridge):
    log = []

    @asynccontextmanager
    async def opened():
        log.append("opened")
        yield len(log)

    class Acme(scripted()):
        @hookimpl
        async def stream(self, request, context):
            first = await context.resource("k", opened)
            await context.discard("k", first)
            yield TextDelta(f"{first} {await context.resource('k', opened)}")
            yield Finish("stop")

    assert (await make_bridge({"acme": Acme}).generate("acme", ASK)).text == "1 2"


async def test_a_bridge_finds_settings_and_plugins_by_itself(monkeypatch):
    monkeypatch.setenv("LMBRIDGE_PLUGINS", "openai-compat")
    async with lmbridge.Bridge(
        {"mine": {"provider": "openai-compat", "base_url": "http://127.0.0.1:9"}}
    ) as bridge:
        assert set(await bridge.connections()) == {"mine", "openai-compat"}
        assert (await bridge.plugins()).providers == ("openai-compat",)
        assert (await bridge.settings()).names() == await bridge.connections()
        assert "creative" in await bridge.presets()
