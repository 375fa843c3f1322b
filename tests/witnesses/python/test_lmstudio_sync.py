"""LM Studio's synchronous Python client: what its asynchronous twin does, from threads."""

import threading
from collections.abc import Iterator

import lmstudio as lms
import pytest

from lmbridge.emulator import ThreadedEmulator

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
BOTH, SLOW, EMBEDDING = "google/gemma-4-26b-a4b", "meta/llama-3.3-70b", "text-embedding-nomic-embed-text-v1.5"


@pytest.fixture
def emulator(lmstudio_emulator_thread: ThreadedEmulator) -> ThreadedEmulator:
    return lmstudio_emulator_thread


@pytest.fixture
def client(emulator: ThreadedEmulator) -> Iterator[lms.Client]:
    with lms.Client(emulator.address) as client:
        yield client


def test_lists_loads_and_information(emulator, client):
    assert lms.Client.is_valid_api_host(emulator.address)
    assert BOTH in [model.model_key for model in client.list_downloaded_models("llm")]
    assert [model.model_key for model in client.list_downloaded_models("embedding")] == [EMBEDDING]
    progress: list[float] = []
    model = client.llm.model(SLOW, ttl=60, config={"contextLength": 9000}, on_load_progress=progress.append)
    assert progress == sorted(progress)
    assert (progress[-1], len(progress) >= 50) == (1.0, True)
    assert (model.get_info().context_length, model.get_context_length()) == (9000, 9000)
    assert model.get_load_config().context_length == 9000
    assert emulator.call(lambda e: e.instances[0].ttl_s) == 60
    assert [entry.identifier for entry in client.list_loaded_models()] == [SLOW]


def test_instances_and_unloading(client):
    first, second = client.llm.load_new_instance(TEXT), client.llm.load_new_instance(TEXT)
    named = client.llm.load_new_instance(TEXT, "mine")
    assert (first.identifier, second.identifier, named.identifier) == (TEXT, f"{TEXT}:2", "mine")
    first.unload()
    client.llm.unload("mine")
    with pytest.raises(lms.LMStudioServerError) as caught:
        client.llm.unload("mine")
    assert caught.value.server_error.display_data["code"] == "generic.identifierNotFound"
    with pytest.raises(lms.LMStudioModelNotFoundError):
        first.respond("Hi")
    with pytest.raises(lms.LMStudioServerError) as caught:
        client.llm.model("nobody/nothing")
    assert caught.value.server_error.display_data["code"] == "generic.pathNotFound"


def test_a_load_that_fails(emulator, client):
    emulator.configure(load_failure=True)
    with pytest.raises(lms.LMStudioServerError, match="insufficient system resources"):
        client.llm.model(TEXT)


def test_a_stream_with_reasoning_progress_and_stats(client):
    model = client.llm.model(THINKING)
    chat = lms.Chat("Be kind")
    chat.add_user_message("Hello")
    progress: list[float] = []
    stream = model.respond_stream(
        chat, config={"temperature": 0.3}, on_prompt_processing_progress=progress.append
    )
    pieces: dict[str, str] = {}
    for fragment in stream:
        pieces[fragment.reasoning_type] = pieces.get(fragment.reasoning_type, "") + fragment.content
    assert list(pieces) == ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]
    assert "temperature=0.3" in pieces["none"]
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    result = stream.result()
    assert result.content == "".join(pieces.values())
    prompt = model.apply_prompt_template(chat)
    assert result.stats.prompt_tokens_count == model.count_tokens(prompt) == len(model.tokenize(prompt))


def test_pictures(client, picture, large_picture):
    model = client.llm.model(VISION)
    chat = lms.Chat()
    handles = [client.prepare_image(picture((1, 1), "blue")), client.prepare_image(large_picture)]
    assert handles[1].size_bytes == len(large_picture) > 10_000_000
    chat.add_user_message("Compare", images=handles)
    text = model.respond(chat).content
    assert "Picture 1 is 1x1 pixels, PNG, mostly blue" in text
    assert "Picture 2 is 1900x1800 pixels" in text
    with pytest.raises(lms.LMStudioServerError, match="does not support images"):
        client.llm.model(TEXT).respond(chat)


def test_tools_structure_completion_and_limits(client):
    model = client.llm.model(TEXT)
    messages: list = []

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    prompt = 'Sum [[tool=add {"a": 2, "b": 40}]] [[tool2=add {"a": 1, "b": 1}]]'
    assert model.act(prompt, [add], on_message=messages.append).rounds == 3
    assert "The tool answered: 42. The tool answered: 2." in messages[-1].content[0].text
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}
    assert model.respond("Give", response_format=schema).parsed == {"n": 7}
    assert "You wrote: “Once”" in model.complete("Once").content
    assert model.respond("[[words=9]]", config={"maxTokens": 4}).stats.predicted_tokens_count == 4
    stopped = model.respond("[[say=one two]]", config={"stopStrings": ["two"]})
    assert (stopped.content, stopped.stats.stop_reason) == ("one ", "stopStringFound")
    drafted = model.respond("Hi", config={"draftModel": THINKING}).stats
    assert drafted.used_draft_model_key == THINKING


def test_embeddings(client):
    model = client.embedding.model(EMBEDDING)
    one = model.embed("hello")
    assert len(one) == 768
    assert model.embed(["hello", "world"]) == [one, model.embed("world")]


@pytest.mark.parametrize(("phase", "after"), [("reasoning", 4), ("answering", 4), ("prompt", 1)])
def test_a_cancel_from_another_thread(emulator, client, phase, after):
    begun = threading.Event()
    stream = client.llm.model(THINKING).respond_stream(
        "[[words=1000]]", on_prompt_processing_progress=lambda _: begun.set()
    )
    gate = emulator.hold(phase, after=after)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    emulator.reached(gate)
    assert begun.wait(10)  # an earlier cancel would do nothing
    stream.cancel()
    emulator.wait_for(lambda e: e.find("predict")[0].frames == [{"type": "cancel"}])
    emulator.release()  # a prompt is read to its end
    reader.join()
    assert stream.result().stats.stop_reason == "userStopped"
    assert emulator.find("predict")[0].cancelled


def test_a_loop_that_is_left_cancels_nothing(emulator, client):
    emulator.hold("answering", after=3)
    for _ in client.llm.model(TEXT).respond_stream("[[words=20]]"):
        break
    emulator.release()
    record = emulator.wait_for(lambda e: e.find("predict")[0].finished and e.find("predict")[0])
    assert (record.frames, record.stop_reason) == ([], "eosFound")


def test_a_crash_and_a_dropped_socket(emulator, client):
    model = client.llm.model(TEXT)
    emulator.configure(crash_after_tokens=3)
    with pytest.raises(lms.LMStudioServerError, match="The model has crashed"):
        model.respond("Hi")
    emulator.configure(crash_after_tokens=None, drop_after_tokens=3)
    model = client.llm.model(TEXT)
    with pytest.raises(lms.LMStudioWebsocketError):
        model.respond("Hi")
    with pytest.raises(lms.LMStudioWebsocketError):
        client.llm.model(TEXT)  # it does not connect again


def test_four_threads_share_a_client(client):
    answers: dict[int, str] = {}
    model = client.llm.model(TEXT)

    def work(number: int) -> None:
        answers[number] = model.respond(f"[[say=thread {number}]]").content

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"thread {number}" for number in range(4)}


def test_a_server_that_says_nothing_for_too_long(emulator, client):
    model = client.llm.model(TEXT)
    emulator.hold("answering", after=2)
    before = lms.get_sync_api_timeout()
    lms.set_sync_api_timeout(2)  # for each message, and the others come at once
    try:
        with pytest.raises(lms.LMStudioTimeoutError):
            model.respond("Hi")
    finally:
        lms.set_sync_api_timeout(before)
    assert emulator.find("predict")[0].frames == []  # it cancels nothing


def test_a_download(client):
    option = client.repository.search_models("ministral")[0].get_download_options()[0]
    updates: list = []
    assert option.download(on_progress=updates.append) == "mistralai/ministral-3-3b"
    assert updates[-1].downloaded_bytes == updates[-1].total_bytes


def test_api_tokens(emulator, takes_tokens):
    token = "sk-lm-AbCdEfGh:0123456789abcdefghij"
    emulator.configure(tokens=(token,))
    refusal = lms.LMStudioServerError if takes_tokens else ValueError
    with lms.Client(emulator.address) as client, pytest.raises(refusal):
        client.list_loaded_models()
    if takes_tokens:
        with lms.Client(emulator.address, api_token=token) as client:
            assert client.llm.model(TEXT).respond("[[say=ok]]").content == "ok"
        assert emulator.find("predict")[0].authenticated
