"""Connections that break, and packets that nobody expected."""

import asyncio
import warnings

import pytest

from lmbridge import EmbedRequest, Finish, Options, TextDelta
from lmbridge.errors import ProtocolError, ServerUnreachable

TEXT = "ibm/granite-4-micro"


async def test_one_client_serves_many_calls(scripted, make_context, ask):
    context = make_context(scripted.url)
    for _ in range(3):
        await ask(context)
    assert scripted.connections == 5


async def test_a_stale_socket_is_replaced_and_the_call_goes_through(scripted, make_context, ask):
    context = make_context(scripted.url)
    await ask(context)
    scripted.drop()
    assert (await ask(context)).text == "Hello"
    assert scripted.connections == 10
    assert len(scripted.sent("predict")) == 2


async def test_a_server_that_came_back_is_used(emulate, make_context, ask):
    emulator = await emulate(loaded=(TEXT,), drop_after_tokens=2)
    context = make_context(emulator.url)
    with pytest.raises(ProtocolError):
        await ask(context, model=TEXT)
    emulator.configure(drop_after_tokens=None)
    assert (await ask(context, "[[say=again]]", model=TEXT)).text == "again"


async def test_a_socket_that_breaks_during_the_first_exchange_is_replaced(
    scripted, make_context, ask, packets
):
    tries = []

    async def load(channel):
        tries.append(channel)
        if len(tries) == 1:
            channel.drop()
        else:
            await channel.send({"type": "alreadyLoaded", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    assert (await ask(make_context(scripted.url))).text == "Hello"


async def test_it_is_replaced_only_once(scripted, make_context, ask):
    async def load(channel):
        channel.drop()

    scripted.channels["getOrLoad"] = load
    with pytest.raises(ServerUnreachable, match="dropped the connection"):
        await ask(make_context(scripted.url))
    assert len(scripted.sent("getOrLoad")) == 2


async def test_a_load_that_was_under_way_is_not_begun_again(scripted, make_context, ask, packets):
    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        channel.drop()

    scripted.channels["getOrLoad"] = load
    with pytest.raises((ServerUnreachable, ProtocolError)):
        await ask(make_context(scripted.url))
    assert len(scripted.sent("getOrLoad")) == 1


async def test_a_prediction_is_never_sent_twice(scripted, make_context, ask):
    async def predict(channel):
        channel.drop()

    scripted.channels["predict"] = predict
    with pytest.raises(ServerUnreachable) as caught:
        await ask(make_context(scripted.url))
    assert caught.value.sent
    assert len(scripted.sent("predict")) == 1


async def test_a_stream_that_is_cut_is_an_error_after_what_came(
    scripted, make_context, provider, ask, packets
):
    async def predict(channel):
        await channel.send(packets.fragment("Hel"))
        await read.wait()  # a reset throws away what was not read yet
        channel.drop()

    read = asyncio.Event()
    scripted.channels["predict"] = predict
    stream = provider.stream(ask.request(), make_context(scripted.url))
    assert (await anext(stream))[-1] == TextDelta("Hel")
    read.set()
    with pytest.raises(ProtocolError, match="middle of the answer"):
        await anext(stream)


async def test_a_channel_that_closes_without_its_end_mark_is_an_error(scripted, make_context, ask, packets):
    async def predict(channel):
        await channel.send(packets.fragment("Hel"))
        await channel.close()

    scripted.channels["predict"] = predict
    with pytest.raises(ProtocolError, match="end mark"):
        await ask(make_context(scripted.url))


async def test_a_load_that_closes_without_a_result_is_an_error(scripted, make_context, ask):
    scripted.channels["getOrLoad"] = lambda channel: channel.close()
    with pytest.raises(ProtocolError):
        await ask(make_context(scripted.url))


@pytest.mark.parametrize("text", ["no json", "[1, 2]", '{"type":"x"}', '"text"', "\u0000"])
async def test_garbage_frames_end_the_connection_not_the_process(scripted, make_context, ask, text):
    context = make_context(scripted.url)
    good = scripted.channels["predict"]
    scripted.channels["predict"] = lambda channel: channel.text(text)
    with pytest.raises((ServerUnreachable, ProtocolError)):
        async with asyncio.timeout(10):
            await ask(context)
    scripted.channels["predict"] = good
    assert (await ask(context)).text == "Hello"


@pytest.mark.parametrize(
    "message",
    [
        {"type": "fragment"},
        {"type": "fragment", "fragment": []},
        {"type": "fragment", "fragment": {"content": 5, "reasoningType": "none"}},
        {"type": "toolCallGenerationEnd"},
    ],
)
async def test_packets_that_cannot_be_read_are_protocol_errors_and_stop_the_server(
    scripted, make_context, ask, message
):
    stopped = asyncio.Event()

    async def predict(channel):
        await channel.send(message)
        await channel.cancelled()
        stopped.set()

    scripted.channels["predict"] = predict
    with pytest.raises(ProtocolError):
        await ask(make_context(scripted.url))
    async with asyncio.timeout(30):
        await stopped.wait()


async def test_packets_of_a_newer_server_are_passed_over(emulate, make_context, ask):
    """The SDK warns about them, which is an error in a process that makes warnings errors."""
    emulator = await emulate(unknown_packet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (await ask(make_context(emulator.url), "[[say=fine]]", model=TEXT)).text == "fine"


async def test_unknown_packets_of_a_load_are_passed_over(scripted, make_context, ask, packets):
    async def load(channel):
        await channel.send(
            {"type": "warmingUp", "degrees": 3}, {"type": "alreadyLoaded", "info": packets.info}
        )

    scripted.channels["getOrLoad"] = load
    assert (await ask(make_context(scripted.url))).text == "Hello"


async def test_an_unknown_stop_reason_costs_nothing_but_a_note(emulate, make_context, ask):
    emulator = await emulate(unknown_stop_reason=True)
    result = await ask(make_context(emulator.url), "[[say=all of it]]", model=TEXT)
    assert result.text == "all of it"
    assert result.finish_reason == "stop"
    assert result.usage.completion_tokens
    assert any("not known here" in note for note in result.notes)


async def test_figures_that_the_sdk_cannot_read_cost_nothing_else(scripted, make_context, ask, packets):
    bad = packets.success()
    bad["modelInfo"] = {"type": "llm"}
    bad["stats"] = {"stopReason": "eosFound", "tokensPerSecond": "fast", "predictedTokensCount": 5}
    scripted.channels["predict"] = lambda channel: channel.send(packets.fragment("Hello"), bad)
    result = await ask(make_context(scripted.url))
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("Hello", "stop", 5)
    assert result.model is None


async def test_a_kind_of_text_that_is_not_known_is_answer_with_a_note(scripted, make_context, ask, packets):
    scripted.channels["predict"] = lambda channel: channel.send(
        packets.fragment("a"), packets.fragment("b", "musing"), packets.success()
    )
    result = await ask(make_context(scripted.url))
    assert result.text == "ab"
    assert any("'musing'" in note for note in result.notes)


async def test_an_error_inside_the_stream_of_an_old_server(scripted, make_context, ask):
    error = {"title": "The model has crashed", "rootTitle": "The model has crashed"}
    scripted.channels["predict"] = lambda channel: channel.send({"type": "error", "error": error})
    with pytest.raises(Exception, match="crashed") as caught:
        await ask(make_context(scripted.url))
    assert type(caught.value).__module__ == "lmbridge.errors"


async def test_an_empty_answer_is_an_answer(scripted, make_context, ask, packets):
    scripted.channels["predict"] = lambda channel: channel.send(packets.success())
    events = await ask.events(make_context(scripted.url), options=Options())
    assert isinstance(events[-1], Finish)


async def test_a_stale_socket_does_not_lose_an_embedding(scripted, make_context, provider, packets):
    scripted.calls["embedString"] = lambda _: {"embedding": [1.0, 2.0]}
    context = make_context(scripted.url)
    request = EmbedRequest(texts=("a",), model="test/model")
    await provider.embed(request, context)
    scripted.drop()
    assert (await provider.embed(request, context)).vectors == ((1.0, 2.0),)
