"""`/v1/responses` with the official `openai` client as a witness."""

import json

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
VERSION = tuple(int(part) for part in openai.__version__.split(".")[:2])
pytestmark = pytest.mark.skipif(VERSION < (1, 109), reason="the client knows too little of this interface")
ADD = {
    "type": "function",
    "name": "add",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}


@pytest_asyncio.fixture
async def client(emulator):
    async with openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="x", max_retries=0) as client:
        yield client


async def test_create_and_continue(client):
    first = await client.responses.create(model=THINKING, input="My name is Ada", instructions="Be kind")
    assert first.status == "completed"
    assert "Be kind" in first.output_text
    assert first.output[0].content[0].text
    assert first.usage.output_tokens_details.reasoning_tokens > 0
    second = await client.responses.create(model=THINKING, input="Who?", previous_response_id=first.id)
    assert "1 assistant and 1 user" in second.output_text


async def test_stream_with_create(client):
    text = ""
    last = None
    async for event in await client.responses.create(model=THINKING, input="Hello", stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        last = event
    assert last.type == "response.completed"
    assert last.response.output_text == text != ""


async def test_the_clients_own_accumulation_agrees(client):
    async with client.responses.stream(model=THINKING, input="Hello") as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == final.output_text


async def test_a_tool_goes_round(client):
    async with client.responses.stream(model=TEXT, input='x [[tool=add {"a": 2}]]', tools=[ADD]) as stream:
        final = await stream.get_final_response()
    call = final.output[0]
    assert json.loads(call.arguments) == {"a": 2}
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "forty-two"}
    after = await client.responses.create(
        model=TEXT, input=[output], previous_response_id=final.id, tools=[ADD]
    )
    assert "forty-two" in after.output_text
    history = [{"role": "user", "content": "x"}, *[item.to_dict() for item in final.output], output]
    history = [{k: v for k, v in item.items() if k != "parsed_arguments"} for item in history]
    whole = await client.responses.create(model=TEXT, input=history, tools=[ADD])
    assert "forty-two" in whole.output_text


async def test_a_picture(client, picture, data_url):
    content = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": data_url(picture((9, 7))), "detail": "auto"},
    ]
    answer = await client.responses.create(model=VISION, input=[{"role": "user", "content": content}])
    assert "Picture 1 is 9x7" in answer.output_text


async def test_parsing_fails_as_with_the_real_server(emulator, client):
    # bug-tracker#1396
    class Answer(BaseModel):
        n: int

    with pytest.raises(ValueError, match="Invalid JSON"):
        await client.responses.parse(model=TEXT, input="x", text_format=Answer)
    emulator.configure(responses_structured_output=True)
    answer = await client.responses.parse(model=TEXT, input="x", text_format=Answer)
    assert isinstance(answer.output_parsed.n, int)


async def test_errors_become_its_exceptions(emulator, client):
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        await client.responses.create(model=TEXT, input="x", previous_response_id="resp_0")
    emulator.configure(crash_after_tokens=2)
    events = [e async for e in await client.responses.create(model=TEXT, input="x", stream=True)]
    assert events[-1].response.error.message.startswith("The model has crashed")


async def test_closing_the_stream_stops_the_work(emulator, client):
    stream = await client.responses.create(model=TEXT, input="[[words=100000]]", stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
