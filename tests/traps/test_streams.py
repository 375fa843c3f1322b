"""Streams that end too early, too late or twice, with errors, packets and figures nobody expected."""

import asyncio
import json

import pytest
from aiohttp import web

import lmbridge

GRANITE, QWEN = "ibm/granite-4-micro", "qwen/qwen3-4b"


def sse(*events: object, end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": GRANITE,
        "choices": choices,
    } | more


def streaming(*blocks: bytes, then: str = "end"):
    """A handler that streams blocks, and then ends, hangs or breaks the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        for block in blocks:
            await reply.write(block)
            await asyncio.sleep(0)
        if then == "break":
            request.transport.abort()
        elif then == "hang":
            await asyncio.Event().wait()
        return reply

    return answer


async def scripted(make_stand, *blocks: bytes, then: str = "end", path: str = "/v1/chat/completions"):
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    stand.meddler.routes[path] = streaming(*blocks, then=then)
    return stand


async def test_a_failure_ends_the_native_stream_behind_its_begin(make_stand):
    """Some failures end the stream after a bare ``chat.start``, without ``error`` and without ``chat.end``.

    Source: third-party clients of LM Studio's REST API v1.
    """
    stand = await make_stand(failure_ends_after_start=True, load_failure=True)
    with pytest.raises(lmbridge.ModelLoadFailed, match="system resources"):
        await stand.ask("rest")


async def test_an_answer_without_its_end_mark_is_cut_off(make_stand, via):
    """A stream that simply ends looks like a short answer to a client that waits for the connection only.

    Source: LM Studio docs, rest/streaming-events (chat.end); lmstudio-python (success packet).
    """
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    stand.meddler.routes["/v1/chat/completions"] = streaming(sse(chunk({"content": "Half an"}), end=""))
    stand.meddler.routes["/api/v1/chat"] = streaming(
        sse({"type": "chat.start"}, {"type": "message.delta", "content": "Half an"}, end="")
    )

    def frame(frame):
        done = frame.get("message", {}).get("type") == "success"
        return ({"type": "channelClose", "channelId": frame["channelId"]},) if done else (frame,)

    stand.meddler.frame = frame
    partial, error = await stand.until_error(via, "[[say=Half an]]")
    assert isinstance(error, lmbridge.ProtocolError)
    assert "end mark" in error.message
    assert partial.text.strip() == "Half an"


async def test_the_connection_stays_open_behind_the_end(make_stand):
    """Some builds keep the socket open after ``chat.end``: who waits for its end waits for ever.

    Source: third-party clients of LM Studio's REST API v1.
    """
    stand = await make_stand(open_after_end=True)
    assert (await stand.ask("rest", "[[say=done]]")).text == "done"


async def test_the_compatible_stream_stays_open_behind_done(make_stand):
    """``[DONE]`` is the end, whatever the connection does.

    Source: LM Studio docs, openai-compat/chat-completions.
    """
    stand = await scripted(make_stand, sse(chunk({"content": "done"}, "stop")), then="hang")
    assert (await stand.ask("compat")).text == "done"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("string", [True, False])
async def test_an_error_comes_inside_a_stream_of_status_200(make_stand, via, named, string):
    """Once a stream has begun the status is 200, and the error is one of its events, in one of two forms.

    Source: lmstudio-bug-tracker#2322; LM Studio changelog 0.3.18.
    """
    switches = {"error_event_name": named, "string_errors": string}
    stand = await make_stand(loaded=(GRANITE,), crash_after_tokens=3, **switches)
    partial, error = await stand.until_error(via, "[[words=20]]")
    assert type(error) is lmbridge.ServerError
    assert "crashed" in error.message
    assert error.retryable
    assert partial.text


async def test_the_native_stream_goes_on_behind_its_error(make_stand):
    """After ``error`` comes a ``chat.end`` with whatever was generated, which looks like an answer.

    Source: LM Studio docs, rest/streaming-events.
    """
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    end = {"type": "chat.end", "result": {"model_instance_id": GRANITE, "output": [], "stats": {}}}
    failure = {"type": "error", "error": {"type": "internal_error", "message": "The engine gave up"}}
    stand.meddler.routes["/api/v1/chat"] = streaming(sse({"type": "chat.start"}, failure, end, end=""))
    with pytest.raises(lmbridge.ServerError, match="gave up"):
        await stand.ask("rest")


@pytest.mark.parametrize("form", ["object", "string", "anthropic"])
async def test_errors_have_more_than_one_form(make_stand, via, form):
    """``error`` is an object or a string, with a status or with 200; engines crash in all of them.

    Source: lmstudio-bug-tracker#1755, #2255.
    """
    said = "The model has crashed without additional information. (Exit code: null)"
    bodies = {
        "object": {"error": {"message": said, "type": "internal_error"}},
        "string": {"error": said},
        "anthropic": {"type": "error", "error": {"type": "api_error", "message": said}},
    }
    stand = await make_stand(loaded=(GRANITE,), meddle=True)

    async def answer(_):
        return web.json_response(bodies[form], status=200 if form == "string" else 500)

    stand.meddler.routes |= {"/api/v1/chat": answer, "/v1/chat/completions": answer}

    def frame(frame):
        if frame.get("message", {}).get("type") != "fragment":
            return (frame,)
        error = {"title": said, "rootTitle": said}
        return ({"type": "channelError", "channelId": frame["channelId"], "error": error},)

    stand.meddler.frame = frame
    with pytest.raises(lmbridge.ServerError, match="crashed") as caught:
        await stand.ask(via)
    assert "log" in caught.value.hint


async def test_events_of_a_newer_server(make_stand):
    """A newer server sends events that are in no documentation; ``tool_call.name`` was seen already.

    Source: third-party clients of LM Studio's REST API v1.
    """
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    end = {
        "type": "chat.end",
        "result": {"model_instance_id": GRANITE, "output": [{"type": "audio", "content": 1}], "stats": {}},
    }
    stand.meddler.routes["/api/v1/chat"] = streaming(
        sse(
            {"type": "chat.start"},
            {"type": "tool_call.name", "name": "x"},
            {"type": "speculation.start", "depth": [1, {"deep": None}]},
            {"type": "message.delta", "content": "as ever"},
            end,
            end="",
        )
    )
    assert (await stand.ask("rest")).text == "as ever"


async def test_packets_of_a_newer_server(make_stand):
    """A packet of an unknown type makes the SDK warn, which is an error where warnings are.

    Source: lmstudio-python#25 (LMStudioUnknownMessageWarning).
    """
    stand = await make_stand(unknown_packet=True)
    assert (await stand.ask("sdk", "[[say=as ever]]")).text == "as ever"


async def test_a_stop_reason_of_a_newer_server_costs_the_whole_answer(make_stand):
    """An unknown stop reason raises ``msgspec.ValidationError`` behind the last word of the answer.

    Source: lmstudio-bug-tracker#733; lmstudio-python (LlmPredictionStats).
    """
    stand = await make_stand(unknown_stop_reason=True)
    result = await stand.ask("sdk", "[[say=all of it]]")
    assert (result.text, result.finish_reason) == ("all of it", "stop")
    assert any("not known here" in note for note in result.notes)


async def test_a_field_that_a_newer_server_left_out_costs_the_whole_answer(make_stand):
    """A required field that is missing from the final packet makes the SDK raise, with the answer read.

    Source: lmstudio-bug-tracker#733 (Object missing required field).
    """
    stand = await make_stand(meddle=True)

    def frame(frame):
        message = frame.get("message", {})
        if message.get("type") == "success":
            del message["modelInfo"]["maxContextLength"]
        return (frame,)

    stand.meddler.frame = frame
    assert (await stand.ask("sdk", "[[say=all of it]]")).text == "all of it"


async def test_a_kind_of_text_of_a_newer_server(make_stand):
    """An unknown kind of fragment ends the SDK's stream in the middle with a ``msgspec.ValidationError``.

    Source: lmstudio-python (LlmPredictionFragment.reasoningType).
    """
    stand = await make_stand(meddle=True)

    def frame(frame):
        message = frame.get("message", {})
        if message.get("type") == "fragment":
            message["fragment"]["reasoningType"] = "summary"
        return (frame,)

    stand.meddler.frame = frame
    result = await stand.ask("sdk", "[[say=all of it]]")
    assert result.text == "all of it"
    assert any("summary" in note for note in result.notes)


@pytest.mark.parametrize("garbage", ["{", "not json", "[]", '{"type": 5}'])
async def test_a_frame_that_is_no_message(make_stand, garbage):
    """A frame that is no JSON raises ``json.JSONDecodeError`` or ``KeyError`` inside of the SDK.

    Source: lmstudio-python (_ws_impl).
    """
    stand = await make_stand(meddle=True)
    stand.meddler.frame = lambda frame: (
        (garbage,) if frame.get("message", {}).get("type") == "fragment" else (frame,)
    )
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await stand.ask("sdk")
    assert not isinstance(caught.value, lmbridge.PluginError)
    stand.meddler.frame = lambda frame: (frame,)
    assert (await stand.ask("sdk", "[[say=next]]")).text == "next"


async def test_without_a_wish_the_stream_has_no_usage(make_stand):
    """``/v1`` tells the tokens of a stream only with ``stream_options``, in a chunk without choices.

    Source: lmstudio-bug-tracker#713; LM Studio changelog 0.3.18.
    """
    stand = await make_stand()
    assert (await stand.ask("compat")).usage.completion_tokens


async def test_a_usage_of_zeros(make_stand):
    """The usage may be all zeros, which is no usage.

    Source: lmstudio-bug-tracker#1602.
    """
    stand = await make_stand(zero_usage=True)
    result = await stand.ask("compat")
    assert result.usage.completion_tokens is None
    assert result.stats.tokens_per_second is None


async def test_every_delta_repeats_the_role(make_stand):
    """Each chunk names the role again; who begins a message for each makes as many messages as tokens.

    Source: lmstudio-bug-tracker#676, #378.
    """
    pieces = [chunk({"role": "assistant", "content": text}) for text in ("One", " two", " three")]
    stand = await scripted(make_stand, sse(*pieces, chunk({}, "stop")))
    assert (await stand.ask("compat")).text == "One two three"


async def test_the_native_stream_tells_no_reason_for_its_end(make_stand):
    """REST v1 has no finish reason: a limit must be inferred from the count of tokens.

    Source: LM Studio docs, rest/chat.
    """
    stand = await make_stand()
    limited = await stand.ask("rest", "[[words=50]]", options=lmbridge.Options(max_tokens=5))
    assert limited.finish_reason == "length"
    assert (await stand.ask("rest", "[[words=5]]")).finish_reason == "stop"


@pytest.mark.parametrize("first", [True, False])
async def test_a_load_is_told_before_or_behind_the_start(make_stand, first):
    """Whether ``chat.start`` comes before or after the events of the load is not settled.

    Source: LM Studio docs, rest/streaming-events.
    """
    stand = await make_stand(chat_start_first=first)
    request = lmbridge.Request(model=GRANITE, messages=[lmbridge.Message.user("[[say=here]]")])
    async with stand.bridge.stream("rest", request) as events:
        seen = [event async for event in events]
    assert lmbridge.Progress("loading model", 0.0) in seen
    assert "".join(event.text for event in seen if isinstance(event, lmbridge.TextDelta)) == "here"


async def test_a_load_inside_a_request_reports_no_progress_on_the_compatible_route(make_stand):
    """A load on request may take minutes in silence: nothing may end the call for that.

    Source: lmstudio-bug-tracker#944, #570.
    """
    stand = await make_stand(fields={"idle_timeout": 0.05})
    gate = stand.emulator.gates.hold("loading", after=2)
    answer = asyncio.ensure_future(stand.ask("compat", "[[say=at last]]", model=GRANITE))
    await gate.reached()
    await asyncio.wait({answer}, timeout=0.3)
    assert not answer.done()  # six times the limit for an answer under way
    answer.cancel()
    gate.release()
