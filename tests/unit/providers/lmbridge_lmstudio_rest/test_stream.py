"""What the events of a stream become, and what becomes of a stream that goes wrong."""

import asyncio
from typing import Any

import pytest

from lmbridge.chat import Message, Options, Request
from lmbridge.events import Finish, Progress, ReasoningDelta, TextDelta, Usage

HELLO = Request(model="m", messages=(Message.user("hello"),))
MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__"


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": text}


def reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": text}


@pytest.fixture
def whole(wire, ending) -> list[bytes]:
    """The complete stream of the docs: a JIT-loaded model that reasons."""
    stats = {
        "input_tokens": 329,
        "total_output_tokens": 268,
        "reasoning_output_tokens": 5,
        "tokens_per_second": 43.73,
        "time_to_first_token_seconds": 0.781,
        "model_load_time_seconds": 12.34,
    }
    name = {"model_instance_id": "openai/gpt-oss-20b"}
    return [
        wire("chat.start", **name),
        wire("model_load.start", **name),
        wire("model_load.progress", progress=0.65, **name),
        wire("model_load.end", load_time_seconds=12.34, **name),
        wire("prompt_processing.start"),
        wire("prompt_processing.progress", progress=0.5),
        wire("prompt_processing.end"),
        wire("reasoning.start"),
        wire("reasoning.delta", content="Need to"),
        wire("reasoning.end"),
        wire("message.start"),
        wire("message.delta", content="The current — ü"),
        wire("message.end"),
        ending(
            reasoning("Need to"),
            message("The current — ü"),
            stats=stats,
            response_id="resp_02b2017d",
            **name,
        ),
    ]


EXPECTED = [
    Progress("loading model", 0.0),
    Progress("loading model", 0.65),
    Progress("loading model", 1.0),
    Progress("reading prompt", 0.0),
    Progress("reading prompt", 0.5),
    Progress("reading prompt", 1.0),
    ReasoningDelta("Need to"),
    TextDelta("The current — ü"),
    Usage(329, 268, 597, 5),
]


async def test_the_stream_of_the_docs(rest, chat_server, whole):
    server = await chat_server(*whole)
    *events, finish = await rest.events(HELLO, rest.context(server.url), [])
    assert events == EXPECTED
    assert (finish.reason, finish.model) == ("stop", "openai/gpt-oss-20b")
    assert finish.response_id == "resp_02b2017d"
    assert finish.stats.tokens_per_second == 43.73
    assert finish.stats.time_to_first_token == 0.781
    assert finish.stats.load_seconds == 12.34


async def test_one_block_of_the_network_is_one_list(rest, chat_server, wire, ending):
    deltas = b"".join(wire("message.delta", content=letter) for letter in "abc")
    server = await chat_server(deltas + ending(message("abc")))
    batches = [batch async for batch in rest.plugin.stream(HELLO, rest.context(server.url))]
    assert batches[0] == [TextDelta("a"), TextDelta("b"), TextDelta("c")]
    assert [type(event) for event in batches[1]] == [Finish]
    assert len(batches) == 2


async def test_the_stream_may_come_byte_by_byte(rest, chat_server, whole):
    data = b"".join(whole)
    server = await chat_server(*(data[i : i + 1] for i in range(len(data))))
    *events, _ = await rest.events(HELLO, rest.context(server.url), [])
    assert events == EXPECTED


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
async def test_other_line_ends_a_mark_and_keep_alives(rest, chat_server, whole, newline):
    data = b"\xef\xbb\xbf" + b": keep-alive\n\n".join(whole)
    server = await chat_server(data.replace(b"\n", newline))
    *events, _ = await rest.events(HELLO, rest.context(server.url), [])
    assert events == EXPECTED


async def test_comments_and_unknown_events_reset_the_idle_clock_only(rest, serve, wire, ending):
    heard, go_on = asyncio.Event(), asyncio.Event()

    async def chat(exchange):
        await exchange.begin()
        await exchange.chunk(b": keep-alive\n\n")
        heard.set()
        await go_on.wait()
        await exchange.chunk(wire("tool_call.name", tool="x") + ending(message("late")))
        await exchange.end()

    server = await serve({"POST /api/v1/chat": chat})
    context = rest.context(server.url)
    task = asyncio.create_task(rest.answer(HELLO, context))
    async with asyncio.timeout(30):
        await heard.wait()
        while not context.alive_at:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    go_on.set()
    assert (await task).text == "late"


@pytest.mark.parametrize("name", ["tool_call.name", "chat.started_again", ""])
async def test_unknown_events_are_ignored(rest, chat_server, wire, ending, name):
    server = await chat_server(
        wire(name, tool="x") + wire("message.delta", content="a") + ending(message("a"))
    )
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a"


async def test_the_type_may_be_in_the_name_only(rest, chat_server, ending):
    server = await chat_server(b'event: message.delta\ndata: {"content":"a"}\n\n' + ending(message("a")))
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a"


async def test_fields_of_another_type_are_no_error(rest, chat_server, wire, ending):
    chunks = [
        wire("message.delta", content=None),
        wire("reasoning.delta", content=7),
        wire("model_load.progress", progress="half"),
        wire("prompt_processing.progress", progress=7.5),
        wire("message.delta", content="a"),
        ending(message("a"), 17, stats={"input_tokens": "many", "tokens_per_second": -1}),
    ]
    server = await chat_server(*chunks)
    result = await rest.answer(HELLO, rest.context(server.url))
    assert result.text == "a"
    assert result.stats.tokens_per_second is None


async def test_bytes_that_are_no_utf_8_are_replaced(rest, chat_server, ending):
    event = b'event: message.delta\ndata: {"type":"message.delta","content":"a\xffb"}\n\n'
    server = await chat_server(event + ending(message("a\ufffdb")))
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a\ufffdb"


# The end


@pytest.fixture
def patient(monkeypatch):
    """A slow machine must not make the plugin give up the rest of the body."""
    from lmbridge_lmstudio_rest import chat

    monkeypatch.setattr(chat, "_REST_SECONDS", 10.0)


async def test_reading_stops_at_chat_end_although_the_socket_stays_open(rest, chat_server, whole):
    server = await chat_server(*whole, end=False)
    async with asyncio.timeout(30):
        events = await rest.events(HELLO, rest.context(server.url), [])
    assert isinstance(events[-1], Finish)


async def test_a_drop_behind_chat_end_does_not_spoil_the_answer(rest, serve, ending, patient):
    async def chat(exchange):
        await exchange.begin()
        await exchange.chunk(ending(message("a")))
        for _ in range(5):
            await asyncio.sleep(0)
        exchange.drop()

    server = await serve({"POST /api/v1/chat": chat})
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a"


async def test_nothing_behind_chat_end_counts(rest, chat_server, wire, ending):
    server = await chat_server(ending(message("a")) + wire("message.delta", content="b"))
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a"


async def test_a_connection_whose_end_comes_a_little_later_is_used_again(rest, serve, ending, patient):
    async def chat(exchange):
        await exchange.begin()
        await exchange.chunk(ending(message("a")))
        for _ in range(5):  # the client has read chat.end before the body ends
            await asyncio.sleep(0)
        await exchange.end()

    server = await serve({"POST /api/v1/chat": chat})
    peers = set()
    for _ in range(3):
        await rest.answer(HELLO, rest.context(server.url))
        peers.add(server.seen[-1].peer)
    assert len(peers) == 1


# Text and thinking


async def test_text_that_is_in_the_final_body_only_is_delivered(rest, chat_server, wire, ending):
    server = await chat_server(wire("chat.start"), ending(reasoning("hm"), message("all of it")))
    result = await rest.answer(HELLO, rest.context(server.url))
    assert (result.reasoning, result.text) == ("hm", "all of it")


async def test_the_rest_that_was_not_streamed_is_delivered(rest, chat_server, wire, ending):
    server = await chat_server(
        wire("reasoning.delta", content="a"),
        wire("message.delta", content="one "),
        ending(reasoning("ab"), message("one two")),
    )
    result = await rest.answer(HELLO, rest.context(server.url))
    assert (result.reasoning, result.text) == ("ab", "one two")


async def test_a_final_body_that_contradicts_the_stream_is_noted(rest, chat_server, wire, ending):
    server = await chat_server(wire("message.delta", content="one"), ending(message("two")))
    context = rest.context(server.url)
    assert (await rest.answer(HELLO, context)).text == "one"
    assert "differs" in context.notes[0]


async def test_a_final_body_without_the_outer_white_space_is_no_contradiction(
    rest, chat_server, wire, ending
):
    server = await chat_server(wire("message.delta", content=" one\n"), ending(message("one")))
    context = rest.context(server.url)
    assert (await rest.answer(HELLO, context)).text == " one\n"
    assert context.notes == ()


async def test_inline_tags_are_split_across_deltas(rest, chat_server, wire, ending):
    pieces = ["<th", "ink>hm", "</thi", "nk>", "an", "swer"]
    deltas = [wire("message.delta", content=piece) for piece in pieces]
    server = await chat_server(*deltas, wire("message.end"), ending(message("".join(pieces))))
    result = await rest.answer(HELLO, rest.context(server.url))
    assert (result.reasoning, result.text) == ("hm", "answer")


async def test_the_leaked_marker_is_no_part_of_the_answer(rest, chat_server, wire, ending):
    pieces = [MARKER[:30], MARKER[30:], "answer"]
    deltas = [wire("message.delta", content=piece) for piece in pieces]
    server = await chat_server(
        wire("reasoning.delta", content="hm"), *deltas, ending(reasoning("hm"), message("".join(pieces)))
    )
    result = await rest.answer(HELLO, rest.context(server.url))
    assert (result.reasoning, result.text) == ("hm", "answer")


async def test_each_message_of_an_answer_may_have_tags(rest, chat_server, wire, ending):
    server = await chat_server(
        wire("message.delta", content="<think>a</think>b"),
        wire("message.end"),
        wire("message.delta", content="<think>c</think>d"),
        wire("message.end"),
        ending(message("<think>a</think>b"), message("<think>c</think>d")),
    )
    result = await rest.answer(HELLO, rest.context(server.url))
    assert (result.reasoning, result.text) == ("ac", "bd")


async def test_a_closing_tag_without_an_opening_one_is_noted(rest, chat_server, wire, ending):
    text = "hm</think>yes"
    server = await chat_server(wire("message.delta", content=text), ending(message(text)))
    context = rest.context(server.url)
    assert (await rest.answer(HELLO, context)).text == "hmyes"
    assert "closing reasoning tag" in context.notes[0]


async def test_output_items_of_the_future_are_ignored(rest, chat_server, wire, ending):
    server = await chat_server(ending({"type": "hologram", "content": "x"}, message("a")))
    assert (await rest.answer(HELLO, rest.context(server.url))).text == "a"


async def test_an_empty_answer_is_noted(rest, chat_server, wire, ending):
    server = await chat_server(wire("chat.start"), ending())
    context = rest.context(server.url)
    assert (await rest.answer(HELLO, context)).text == ""
    assert "generated nothing" in context.notes[0]


@pytest.mark.parametrize(("generated", "reason"), [(7, "stop"), (8, "length"), (9, "length"), (None, "stop")])
async def test_the_finish_reason_is_inferred_from_the_count(rest, chat_server, ending, generated, reason):
    server = await chat_server(ending(message("a"), stats={"total_output_tokens": generated}))
    request = HELLO.replace(options=Options(max_tokens=8))
    assert (await rest.answer(request, rest.context(server.url))).finish_reason == reason


async def test_the_load_time_of_the_stream_counts_where_the_stats_have_none(rest, chat_server, wire, ending):
    server = await chat_server(wire("model_load.end", load_time_seconds=3.5), ending(message("a")))
    assert (await rest.answer(HELLO, rest.context(server.url))).stats.load_seconds == 3.5


async def test_a_long_answer_is_not_delivered_twice(rest, chat_server, wire, ending):
    deltas = [wire("message.delta", content="x" * 200) for _ in range(5000)]
    server = await chat_server(*deltas, ending(message("x" * 1_000_000)))
    assert len((await rest.answer(HELLO, rest.context(server.url))).text) == 1_000_000


async def test_closing_the_iterator_closes_the_connection(rest, serve, wire):
    gone = asyncio.Event()

    async def chat(exchange):
        await exchange.begin()
        await exchange.chunk(wire("message.delta", content="a"))
        await exchange.closed()
        gone.set()

    server = await serve({"POST /api/v1/chat": chat})
    stream = rest.plugin.stream(HELLO, rest.context(server.url))
    assert await anext(stream) == [TextDelta("a")]
    await stream.aclose()
    await asyncio.wait_for(gone.wait(), 5)


async def test_cancelling_while_the_server_says_nothing_closes_the_connection(rest, serve):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def chat(exchange):
        asked.set()
        await exchange.closed()
        gone.set()

    server = await serve({"POST /api/v1/chat": chat})
    task = asyncio.create_task(rest.answer(HELLO, rest.context(server.url)))
    await asyncio.wait_for(asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone.wait(), 5)
