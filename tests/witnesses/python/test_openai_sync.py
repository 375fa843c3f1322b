"""OpenAI's synchronous Python client."""

import json
from collections.abc import Iterator

import openai
import pytest

from lmbridge.emulator import ThreadedEmulator

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def emulator(lmstudio_emulator_thread: ThreadedEmulator) -> ThreadedEmulator:
    return lmstudio_emulator_thread


@pytest.fixture
def client(emulator: ThreadedEmulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{emulator.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def test_models_chats_and_streams(client):
    assert TEXT in [model.id for model in client.models.list()]
    whole = client.chat.completions.create(model=THINKING, messages=HELLO, seed=4)
    stream = client.chat.completions.create(model=THINKING, messages=HELLO, seed=4, stream=True)
    deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    message = whole.choices[0].message
    assert "".join(delta.content or "" for delta in deltas) == message.content
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == message.reasoning_content


def test_pictures_tools_structure_and_embeddings(client, picture, data_url):
    seen = [{"type": "image_url", "image_url": {"url": data_url(picture((8, 6)))}}]
    answer = client.chat.completions.create(model=VISION, messages=[{"role": "user", "content": seen}])
    assert "Picture 1 is 8x6 pixels, PNG" in answer.choices[0].message.content
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    asked = [{"role": "user", "content": 'Please [[tool=add {"a": 2}]]'}]
    answer = client.chat.completions.create(model=TEXT, messages=asked, tools=[tool])
    assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments) == {"a": 2}
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = client.chat.completions.create(model=TEXT, messages=HELLO, response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"n": 7}
    assert len(client.embeddings.create(model=EMBEDDING, input="a").data[0].embedding) == 768


def test_responses(client):
    first = client.responses.create(model=TEXT, input="[[say=one]]")
    assert first.output_text == "one"
    stream = client.responses.create(model=TEXT, input="Again", previous_response_id=first.id, stream=True)
    *_, last = stream
    assert last.type == "response.completed"
    assert "the last: “one”" in last.response.output_text


def test_errors(emulator, client):
    with pytest.raises(openai.BadRequestError, match="Invalid model identifier"):
        client.chat.completions.create(model="nobody", messages=HELLO)
    emulator.configure(crash_after_tokens=2)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=TEXT, messages=HELLO)
    assert "The model has crashed" in str(caught.value.body)
    with pytest.raises(openai.APIError, match="The model has crashed"):
        list(client.chat.completions.create(model=TEXT, messages=HELLO, stream=True))


def test_closing_a_stream_stops_the_work(emulator, client):
    emulator.hold("answering", after=5)
    asked = [{"role": "user", "content": "[[words=1000]]"}]
    with client.chat.completions.create(model=TEXT, messages=asked, stream=True) as stream:
        next(iter(stream))
    record = emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
    emulator.release()
