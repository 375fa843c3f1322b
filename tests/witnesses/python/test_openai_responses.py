"""OpenAI's asynchronous Python client on ``/v1/responses``."""

import json

import openai
import pytest

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
TOOL = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "strict": False,
}


async def test_an_answer_with_reasoning_and_its_continuation(openai_client):
    first = await openai_client.responses.create(model=THINKING, input="Hello", instructions="Be kind")
    assert (first.status, first.object) == ("completed", "response")
    assert [item.type for item in first.output] == ["reasoning", "message"]
    assert "Hello" in first.output_text
    assert "Be kind" in first.output_text
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
    assert first.usage.output_tokens_details.reasoning_tokens > 0
    second = await openai_client.responses.create(
        model=THINKING, input="Again", previous_response_id=first.id, reasoning={"effort": "none"}
    )
    assert "Before that came" in second.output_text
    assert [item.type for item in second.output] == ["message"]


async def test_a_stream_is_what_the_whole_answer_is(openai_client):
    asked = {"model": THINKING, "input": "[[say=one two]]"}
    stream = await openai_client.responses.create(**asked, stream=True)
    events = [event async for event in stream]
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    done = [event.text for event in events if event.type == "response.output_text.done"]
    assert [text] == done == ["one two"]
    whole = events[-1].response
    whole = whole if isinstance(whole, dict) else whole.model_dump()  # 1.66 knows no text of reasoning
    assert whole["output"][-1]["content"][0]["text"] == "one two"
    reasoning = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(reasoning) == whole["output"][0]["content"][0]["text"] != ""


async def test_a_function_is_called_and_answered(openai_client):
    asked = 'Please [[tool=add {"a": 2}]]'
    first = await openai_client.responses.create(model=TEXT, input=asked, tools=[TOOL])
    [call] = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "add", {"a": 2})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "forty-two"}
    second = await openai_client.responses.create(
        model=TEXT, input=[result], previous_response_id=first.id, tools=[TOOL]
    )
    assert "forty-two" in second.output_text
    stream = await openai_client.responses.create(model=TEXT, input=asked, tools=[TOOL], stream=True)
    events = [event async for event in stream]
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(pieces)) == {"a": 2}


async def test_pictures(openai_client, picture, data_url):
    content = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": data_url(picture((8, 6))), "detail": "auto"},
    ]
    answer = await openai_client.responses.create(model=VISION, input=[{"role": "user", "content": content}])
    assert "Picture 1 is 8x6 pixels, PNG" in answer.output_text


async def test_an_answer_that_is_cut_off(openai_client):
    answer = await openai_client.responses.create(model=TEXT, input="[[words=50]]", max_output_tokens=4)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_errors(emulator, openai_client):
    with pytest.raises(openai.BadRequestError, match="Invalid model identifier"):
        await openai_client.responses.create(model="nobody", input="x")
    with pytest.raises(openai.APIStatusError):
        await openai_client.responses.create(model=TEXT, input="x", previous_response_id="resp_unknown")
    emulator.configure(crash_after_tokens=2)
    with pytest.raises(openai.InternalServerError, match="The model has crashed"):
        await openai_client.responses.create(model=TEXT, input="x")


async def test_closing_a_stream_stops_the_work(emulator, openai_client):
    emulator.gates.hold("answering", after=5)
    stream = await openai_client.responses.create(model=TEXT, input="[[words=1000]]", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
