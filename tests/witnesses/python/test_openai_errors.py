"""OpenAI's asynchronous Python client: errors become its exceptions; timeouts; streams that are left."""

import httpx
import openai
import pytest

from lmbridge.emulator import ApiToken

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
HELLO = [{"role": "user", "content": "Hello"}]


def told(caught):
    """Return all that the client tells of an error: a body that is a string is not in its message."""
    return f"{caught.value.message} {caught.value.body}"


@pytest.fixture
def chat(openai_client):
    """Ask one question."""

    async def ask(model=TEXT, **more):
        return await openai_client.chat.completions.create(model=model, **{"messages": HELLO, **more})

    return ask


async def test_models_that_cannot_answer(emulator, chat):
    with pytest.raises(openai.BadRequestError) as caught:
        await chat("nobody")
    assert "Invalid model identifier" in told(caught)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.APIStatusError):
        await chat(EMBEDDING)
    emulator.configure(load_failure=True)
    with pytest.raises(openai.NotFoundError) as caught:
        await chat()
    assert "insufficient system resources" in told(caught)
    emulator.configure(jit=False)
    with pytest.raises(openai.BadRequestError) as caught:
        await chat()
    assert "No models loaded" in told(caught)


async def test_requests_that_are_refused(chat, picture, data_url):
    link = [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(VISION, messages=[{"role": "user", "content": link}])
    assert "must be a base64 encoded image" in told(caught)
    seen = [{"type": "image_url", "image_url": {"url": data_url(picture((2, 2)))}}]
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(messages=[{"role": "user", "content": seen}])
    assert "does not support images" in told(caught)
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(response_format={"type": "json_object"})
    assert "must be 'json_schema' or 'text'" in told(caught)
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    choice = {"type": "function", "function": {"name": "add"}}
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(tools=[tool], tool_choice=choice)
    assert "Invalid tool_choice type: 'object'" in told(caught)


@pytest.mark.parametrize("string", [False, True], ids=["object", "string"])
async def test_both_forms_of_an_error(emulator, chat, string):
    emulator.configure(string_errors=string)
    with pytest.raises(openai.BadRequestError) as caught:
        await chat("nobody")
    assert "Invalid model identifier" in told(caught)
    assert caught.value.code == (None if string else "model_not_found")


async def test_tokens(make_lmstudio_emulator):
    emulator = await make_lmstudio_emulator(tokens=(ApiToken(TOKEN),))
    for key, error in ((TOKEN, None), ("sk-wrong", openai.AuthenticationError)):
        async with openai.AsyncOpenAI(base_url=f"{emulator.url}/v1", api_key=key, max_retries=0) as client:
            if error is None:
                assert [model async for model in client.models.list()]
                continue
            with pytest.raises(error) as caught:
                await client.chat.completions.create(model=TEXT, messages=HELLO)
            assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("named", [True, False], ids=["error-event", "plain-data"])
async def test_a_crash_whole_and_in_a_stream(emulator, chat, named):
    emulator.configure(crash_after_tokens=2, error_event_name=named)
    with pytest.raises(openai.InternalServerError) as caught:
        await chat()
    assert "The model has crashed" in told(caught)
    stream = await chat(stream=True)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert "The model has crashed" in told(caught)


async def test_contexts_that_are_too_small(emulator, chat):
    emulator.configure(context_length=40)
    long = [{"role": "user", "content": "word " * 50}]
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(messages=long)
    assert "n_keep" in told(caught)
    emulator.configure(overflow="in_stream")
    stream = await chat(messages=long, stream=True)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert "n_keep" in told(caught)
    emulator.configure(overflow="silent")
    assert [chunk async for chunk in await chat(messages=long, stream=True)] == []


async def test_a_connection_that_breaks(emulator, chat):
    emulator.configure(drop_after_tokens=3)
    with pytest.raises(openai.APIConnectionError):
        await chat()
    stream = await chat(stream=True)
    # Of a stream, versions before 3 let through what httpx raises.
    with pytest.raises((openai.APIConnectionError, httpx.TransportError)):
        async for _ in stream:
            pass


async def test_a_server_that_is_too_slow(emulator, openai_client):
    emulator.gates.hold("answering", after=2)
    quick = openai_client.with_options(timeout=openai.Timeout(60, read=0.2))
    with pytest.raises(openai.APITimeoutError):
        await quick.chat.completions.create(model=TEXT, messages=HELLO)
    emulator.gates.release()
    record = await emulator.wait_for(lambda e: e.last.state != "open" and e.last)
    assert record.stop_reason == "eosFound"  # nobody waits for it any more, and it is worked to its end


async def test_an_unknown_route_is_no_error(emulator, openai_client):
    answer = await openai_client.models.retrieve(TEXT)
    assert answer.error == f"Unexpected endpoint or method. (GET /v1/models/{TEXT})"
    assert answer.id is None


@pytest.mark.parametrize("phase", ["reasoning", "answering"])
async def test_closing_a_stream_stops_the_work(emulator, chat, phase):
    gate = emulator.gates.hold(phase, after=5)
    stream = await chat(THINKING, messages=[{"role": "user", "content": "[[words=1000]]"}], stream=True)
    async for _ in stream:
        break
    await gate.reached()
    await stream.close()
    record = await emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.reason == "disconnected"
    assert record.phase == phase
    assert emulator.instances[0].running == set()
