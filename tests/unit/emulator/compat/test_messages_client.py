"""`/v1/messages` with the official `anthropic` client as a witness."""

import base64

import anthropic
import pytest
import pytest_asyncio
from pydantic import TypeAdapter

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
ADD = {
    "name": "add",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}


@pytest_asyncio.fixture
async def client(emulator):
    async with anthropic.AsyncAnthropic(base_url=emulator.url, api_key="lmstudio", max_retries=0) as client:
        yield client


def user(content):
    return [{"role": "user", "content": content}]


async def test_create(emulator, client):
    message = await client.messages.create(
        model=THINKING, max_tokens=500, messages=user("Hello"), system="Be kind"
    )
    thinking, text = message.content
    assert thinking.thinking
    assert "Be kind" in text.text
    assert message.stop_reason == "end_turn"
    assert "anthropic-version" in emulator.last.headers


async def test_the_clients_own_accumulation_agrees(client):
    async with client.messages.stream(model=THINKING, max_tokens=500, messages=user("Hello")) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(texts) == final.content[1].text != ""
    whole = await client.messages.create(model=THINKING, max_tokens=500, messages=user("Hello"))
    assert final.content[0].to_dict() == whole.content[0].to_dict()
    assert final.usage.output_tokens == whole.usage.output_tokens


async def test_the_events_are_anthropics(http):
    """The official client's own types, checked strictly, which the client itself never does."""
    adapter = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    for prompt in ("Hello", 'x [[tool=add {"a": 2}]]'):
        body = {
            "model": THINKING,
            "max_tokens": 500,
            "messages": user(prompt),
            "tools": [ADD],
            "stream": True,
        }
        for name, data in await http.events("/v1/messages", body):
            assert adapter.validate_python(data).type == name


async def test_a_tool_goes_round(client):
    prompt = user('x [[tool=add {"a": 2}]]')
    async with client.messages.stream(model=TEXT, max_tokens=500, messages=prompt, tools=[ADD]) as stream:
        final = await stream.get_final_message()
    use = final.content[0]
    assert use.input == {"a": 2}
    assert final.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "forty-two"}
    history = [*prompt, {"role": "assistant", "content": final.content}, *user([result])]
    after = await client.messages.create(model=TEXT, max_tokens=500, messages=history, tools=[ADD])
    assert "forty-two" in after.content[0].text


async def test_a_picture(client, picture):
    data = base64.b64encode(picture((9, 7))).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    message = await client.messages.create(model=VISION, max_tokens=500, messages=user([image]))
    assert "Picture 1 is 9x7" in message.content[0].text


async def test_errors_become_its_exceptions(make_lmstudio_emulator, client, emulator):
    with pytest.raises(anthropic.BadRequestError, match="Invalid model identifier"):
        await client.messages.create(model="nobody", max_tokens=5, messages=user("x"))
    emulator.configure(tokens=("sk-lm-AbCdEfGh:0123456789abcdefghij",))
    with pytest.raises(anthropic.AuthenticationError):
        await client.messages.create(model=TEXT, max_tokens=5, messages=user("x"))
    emulator.configure(tokens=(), crash_after_tokens=2)
    with pytest.raises(anthropic.InternalServerError, match="The model has crashed"):
        await client.messages.create(model=TEXT, max_tokens=50, messages=user("x"))
    with pytest.raises(anthropic.APIStatusError, match="The model has crashed"):
        async with client.messages.stream(model=TEXT, max_tokens=50, messages=user("x")) as stream:
            await stream.until_done()


async def test_leaving_the_stream_stops_the_work(emulator, client):
    async with client.messages.stream(
        model=TEXT, max_tokens=200_000, messages=user("[[words=100000]]")
    ) as stream:
        async for _ in stream.text_stream:
            break
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
