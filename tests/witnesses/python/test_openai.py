"""The official `openai` client as a witness."""

import json

import pytest
import pytest_asyncio

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"


@pytest_asyncio.fixture
async def client(emulator):
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key="x", max_retries=0) as client:
        yield client


async def test_list_chat_and_stream(client):
    assert TEXT in [model.id async for model in client.models.list()]
    messages = [{"role": "user", "content": "Hello"}]
    whole = await client.chat.completions.create(model=THINKING, messages=messages, seed=4, temperature=0.2)
    stream = await client.chat.completions.create(
        model=THINKING,
        messages=messages,
        seed=4,
        temperature=0.2,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, reasoning, usage = "", "", None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
    assert text == whole.choices[0].message.content
    assert reasoning == whole.choices[0].message.reasoning_content
    assert usage.completion_tokens == whole.usage.completion_tokens > 0


async def test_a_tiny_and_a_huge_picture(emulator, client, picture, data_url):
    for data, size in ((picture((1, 1)), "1x1"), (picture((1600, 1450), None), "1600x1450")):
        content = [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": data_url(data)}},
        ]
        answer = await client.chat.completions.create(
            model=VISION, messages=[{"role": "user", "content": content}]
        )
        assert f"Picture 1 is {size} pixels, PNG" in answer.choices[0].message.content
    assert emulator.last.size > 9_000_000


async def test_tools_and_structured_output(client):
    tool = {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
    messages = [{"role": "user", "content": 'Please [[tool=add {"a": 2}]]'}]
    answer = await client.chat.completions.create(model=TEXT, messages=messages, tools=[tool])
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"a": 2}
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "forty-two"}]
    answer = await client.chat.completions.create(model=TEXT, messages=messages, tools=[tool])
    assert "forty-two" in answer.choices[0].message.content
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await client.chat.completions.create(model=TEXT, messages=messages[:1], response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"n": 7}


async def test_errors_become_its_exceptions(emulator, client):
    import openai

    with pytest.raises(openai.BadRequestError, match="Invalid model identifier"):
        await client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
    emulator.configure(crash_after_tokens=2)
    stream = await client.chat.completions.create(
        model=TEXT, messages=[{"role": "user", "content": "x"}], stream=True
    )
    with pytest.raises(openai.APIError, match="The model has crashed"):
        async for _ in stream:
            pass


async def test_embeddings_and_completions(client):
    answer = await client.embeddings.create(model=EMBEDDING, input=["a", "b"], encoding_format="float")
    assert [len(entry.embedding) for entry in answer.data] == [768, 768]
    answer = await client.completions.create(model=TEXT, prompt="Once", max_tokens=3)
    assert answer.usage.completion_tokens == 3


async def test_closing_a_stream_stops_the_work(emulator, client):
    stream = await client.chat.completions.create(
        model=TEXT, messages=[{"role": "user", "content": "[[words=100000]]"}], stream=True
    )
    async for _ in stream:
        break
    await stream.close()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
    assert 0 < record.tokens < 100_000
