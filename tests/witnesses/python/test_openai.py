"""OpenAI's asynchronous Python client: chats, streams, tools, structure, pictures, embeddings."""

import json

import pydantic
import pytest

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
GPT_OSS, EMBEDDING = "openai/gpt-oss-20b", "text-embedding-nomic-embed-text-v1.5"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


class Book(pydantic.BaseModel):
    """What is asked for."""

    title: str
    year: int = pydantic.Field(ge=1900, le=2000)


def user(text):
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


async def read(stream):
    """Return text, reasoning, finish reason and usage of a stream."""
    text, reasoning, reason, usage = "", "", None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.delta.content or ""
            delta = choice.delta
            reasoning += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
    return text, reasoning, reason, usage


async def test_the_list_of_models(openai_client):
    models = [model async for model in openai_client.models.list()]
    assert {TEXT, THINKING, EMBEDDING} <= {model.id for model in models}
    assert {model.object for model in models} == {"model"}


@pytest.mark.parametrize("model", [THINKING, GPT_OSS, TEXT])
async def test_a_stream_says_what_a_whole_answer_says(openai_client, model):
    asked = {"model": model, "messages": user("Hello"), "seed": 4, "temperature": 0.2}
    whole = await openai_client.chat.completions.create(**asked)
    stream = await openai_client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    text, reasoning, reason, usage = await read(stream)
    message = whole.choices[0].message
    assert text == message.content
    thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
    assert reasoning == thought
    assert bool(thought) == (model != TEXT)
    assert reason == whole.choices[0].finish_reason == "stop"
    assert usage.completion_tokens == whole.usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert whole.model == model
    assert whole.id.startswith("chatcmpl-")


async def test_limits_stop_strings_and_thinking_switched_off(openai_client):
    async def answer(text, model=TEXT, **options):
        asked = await openai_client.chat.completions.create(model=model, messages=user(text), **options)
        return asked.choices[0]

    short = await answer("[[words=40]]", max_tokens=4)
    assert short.finish_reason == "length"
    stopped = await answer("[[say=one two three]]", stop=["two"])
    assert (stopped.message.content, stopped.finish_reason) == ("one ", "stop")
    quiet = await answer("Hello", THINKING, reasoning_effort="low", extra_body={"reasoning_effort": "none"})
    assert not getattr(quiet.message, "reasoning_content", None)


async def test_a_tiny_and_a_huge_picture(emulator, openai_client, picture, large_picture, data_url):
    for data, size in ((picture((1, 1)), "1x1"), (large_picture, "1900x1800")):
        content = [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": data_url(data)}},
        ]
        answer = await openai_client.chat.completions.create(model=VISION, messages=user(content))
        assert f"Picture 1 is {size} pixels, PNG" in answer.choices[0].message.content
    assert emulator.last.size > 13_000_000


async def test_tools_whole_and_streamed(openai_client):
    messages = user('Please [[tool=add {"a": 2, "b": 40}]]')
    answer = await openai_client.chat.completions.create(model=TEXT, messages=messages, tools=[TOOL])
    [call] = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"a": 2, "b": 40}
    stream = await openai_client.chat.completions.create(
        model=TEXT, messages=messages, tools=[TOOL], stream=True
    )
    pieces = [piece async for chunk in stream for c in chunk.choices for piece in c.delta.tool_calls or ()]
    assert pieces[0].function.name == "add"
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == {"a": 2, "b": 40}
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "forty-two"}]
    answer = await openai_client.chat.completions.create(model=TEXT, messages=messages, tools=[TOOL])
    assert "forty-two" in answer.choices[0].message.content


async def test_a_call_that_cannot_be_read_stays_in_the_content(openai_client):
    answer = await openai_client.chat.completions.create(
        model=TEXT, messages=user("[[garbled=add]]"), tools=[TOOL]
    )
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.tool_calls or []) == ("stop", [])
    assert choice.message.content.startswith("add({")


async def test_structured_output(openai_client):
    completions = openai_client.chat.completions
    if not hasattr(completions, "parse"):  # before 1.92
        completions = openai_client.beta.chat.completions
    answer = await completions.parse(model=TEXT, messages=user("A book"), response_format=Book)
    book = answer.choices[0].message.parsed
    assert isinstance(book, Book)
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await openai_client.chat.completions.create(
        model=TEXT, messages=user("Give"), response_format=wanted
    )
    assert json.loads(answer.choices[0].message.content) == {"n": 7}


async def test_embeddings_and_completions(openai_client):
    listed = await openai_client.embeddings.create(model=EMBEDDING, input=["a", "b"], encoding_format="float")
    assert [len(entry.embedding) for entry in listed.data] == [768, 768]
    by_default = await openai_client.embeddings.create(model=EMBEDDING, input="a")  # base64 is asked for
    assert by_default.data[0].embedding == pytest.approx(listed.data[0].embedding)
    answer = await openai_client.completions.create(model=TEXT, prompt="Once", max_tokens=3)
    assert answer.usage.completion_tokens == 3
    stream = await openai_client.completions.create(model=TEXT, prompt="Once", max_tokens=3, stream=True)
    assert (
        "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == answer.choices[0].text
    )
