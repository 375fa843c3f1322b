"""The official `lmstudio` client as a witness."""

import asyncio
import inspect
import json
import threading

import lmstudio as lms
import pytest
import pytest_asyncio

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
BOTH, SLOW, EMBEDDING = "google/gemma-4-26b-a4b", "meta/llama-3.3-70b", "text-embedding-nomic-embed-text-v1.5"


@pytest_asyncio.fixture
async def client(emulator):
    async with lms.AsyncClient(emulator.address) as client:
        yield client


async def consumed(stream):
    """Return the pieces of a stream by their kind, and its result."""
    pieces: dict[str, str] = {}
    async for fragment in stream:
        pieces[fragment.reasoning_type] = pieces.get(fragment.reasoning_type, "") + fragment.content
    return pieces, stream.result()


async def test_lists_and_info(emulator, client):
    assert await lms.AsyncClient.is_valid_api_host(emulator.address)
    downloaded = await client.list_downloaded_models("llm")
    assert BOTH in [model.model_key for model in downloaded]
    assert [model.model_key for model in await client.list_downloaded_models("embedding")] == [EMBEDDING]
    model = await client.llm.model(BOTH, config={"contextLength": 9000, "evalBatchSize": 64})
    info = await model.get_info()
    assert (info.identifier, info.context_length, info.vision) == (BOTH, 9000, True)
    assert await model.get_context_length() == 9000
    config = await model.get_load_config()
    assert (config.context_length, config.eval_batch_size) == (9000, 64)
    assert [entry.identifier for entry in await client.list_loaded_models()] == [BOTH]


async def test_loading_reports_progress_and_takes_a_ttl(emulator, client):
    progress: list[float] = []
    await client.llm.model(SLOW, ttl=60, on_load_progress=progress.append)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert len(progress) >= 50
    assert emulator.instances[0].ttl_s == 60
    again: list[float] = []
    await client.llm.model(SLOW, on_load_progress=again.append)
    assert len(again) < 3


async def test_reasoning_prompt_progress_and_stats(client):
    model = await client.llm.model(THINKING)
    chat = lms.Chat("Be kind")
    chat.add_user_message("Hello")
    progress: list[float] = []
    options = {
        "temperature": 0.3,
        "topKSampling": 11,
        "topPSampling": 0.8,
        "maxTokens": 300,
        "repeatPenalty": 1.5,
    }
    stream = await model.respond_stream(chat, config=options, on_prompt_processing_progress=progress.append)
    pieces, result = await consumed(stream)
    assert list(pieces) == ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]
    assert (pieces["reasoningStartTag"], pieces["reasoningEndTag"]) == ("<think>", "</think>")
    wanted = (
        "temperature=0.3",
        "top_k=11",
        "top_p=0.8",
        "max_tokens=300",
        "repeat_penalty=1.5",
        "Be kind",
        "Hello",
    )
    assert all(part in pieces["none"] for part in wanted)
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert len(progress) >= 4
    assert result.stats.stop_reason == "eosFound"
    assert result.model_info.model_key == THINKING
    counted = await model.count_tokens(pieces["none"]) + await model.count_tokens(pieces["reasoning"]) + 2
    assert result.stats.predicted_tokens_count == counted
    prompt = await model.apply_prompt_template(chat)
    assert (
        result.stats.prompt_tokens_count
        == await model.count_tokens(prompt)
        == len(await model.tokenize(prompt))
    )
    assert await model.tokenize(["a b", "c"]) == [await model.tokenize("a b"), await model.tokenize("c")]


async def test_limits_and_stop_strings(client):
    model = await client.llm.model(TEXT)
    short = await model.respond("[[words=40]]", config={"maxTokens": 4})
    assert short.stats.stop_reason == "maxPredictedTokensReached"
    assert short.stats.predicted_tokens_count == 4
    stopped = await model.respond("[[say=one two three]]", config={"stopStrings": ["two"]})
    assert (stopped.content, stopped.stats.stop_reason) == ("one ", "stopStringFound")
    full = await client.llm.load_new_instance(TEXT, config={"contextLength": 40})
    config = {"contextOverflowPolicy": "stopAtLimit"}
    assert (await full.respond("[[words=90]]", config=config)).stats.stop_reason == "contextLengthReached"
    with pytest.raises(lms.LMStudioServerError, match="n_keep"):
        await full.respond("word " * 50)


async def test_speculative_decoding_shows_in_the_stats(client):
    model = await client.llm.model(TEXT)
    stats = (await model.respond("Hi", config={"draftModel": THINKING})).stats
    assert stats.used_draft_model_key == THINKING
    assert stats.total_draft_tokens_count == stats.predicted_tokens_count
    plain = (await model.respond("Hi")).stats
    assert plain.used_draft_model_key is None


async def test_small_and_large_pictures(client, picture):
    model = await client.llm.model(VISION)
    chat = lms.Chat()
    small = await client.prepare_image(picture((1, 1), "blue"))
    large = await client.prepare_image(picture((1600, 1450), None))
    assert large.size_bytes > 6_900_000
    assert large.file_type == "image"
    chat.add_user_message("Compare", images=[small, large])
    text = (await model.respond(chat)).content
    assert "Picture 1 is 1x1 pixels, PNG, mostly blue" in text
    assert "Picture 2 is 1600x1450 pixels" in text


async def test_pictures_belong_to_their_client_and_need_eyes(emulator, client, picture):
    handle = await client.prepare_image(picture((2, 2)))
    chat = lms.Chat()
    chat.add_user_message("Look", images=[handle])
    text_model = await client.llm.model(TEXT)
    with pytest.raises(lms.LMStudioServerError, match="does not support images"):
        await text_model.respond(chat)
    async with lms.AsyncClient(emulator.address) as other:
        with pytest.raises(lms.LMStudioServerError, match="not found"):
            await (await other.llm.model(VISION)).respond(chat)


async def test_tools_in_rounds(client):
    model = await client.llm.model(TEXT)
    called = []

    async def add(a: int, b: int) -> int:
        """Add."""
        called.append((a, b))
        return a + b

    messages: list = []
    prompt = 'Sum [[tool=add {"a": 2, "b": 40}]] [[tool2=add {"a": 1, "b": 1}]]'
    result = await model.act(prompt, [add], on_message=messages.append)
    assert called == [(2, 40), (1, 1)]
    assert result.rounds == 3
    assert "The tool answered: 42. The tool answered: 2." in messages[-1].content[0].text


async def test_structured_output(client):
    model = await client.llm.model(TEXT)
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    result = await model.respond("Give", response_format=schema)
    assert result.parsed == json.loads(result.content)
    assert result.parsed["n"] >= 1
    grammar = {"type": "gbnf", "gbnfGrammar": 'root ::= "yes" | "no"'}
    assert (await model.respond("Well?", response_format=grammar)).content in ("yes", "no")


async def test_completion(client):
    result = await (await client.llm.model(TEXT)).complete("Once upon a time", config={"maxTokens": 30})
    assert "You wrote: “Once upon a time”" in result.content


async def test_embeddings(client):
    model = await client.embedding.model(EMBEDDING)
    one = await model.embed("hello")
    assert len(one) == 768
    assert await model.embed(["hello", "world"]) == [one, await model.embed("world")]


async def test_cancel_keeps_what_there_is_and_stops_the_work(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=5)
    stream = await model.respond_stream("[[words=1000]]")
    task = asyncio.create_task(consumed(stream))
    await gate.reached()
    await stream.cancel()
    _, result = await task
    assert result.stats.stop_reason == "userStopped"
    assert result.stats.predicted_tokens_count == 5
    record = emulator.find("predict")[0]
    assert (record.cancelled, record.tokens, record.frames) == (True, 5, [{"type": "cancel"}])
    assert emulator.instances[0].running == set()


async def test_cancel_during_the_prompt_takes_effect_after_it(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("prompt", after=1)
    stream = await model.respond_stream("Hi")
    task = asyncio.create_task(consumed(stream))
    await gate.reached()
    await stream.cancel()
    record = await emulator.wait_for(lambda e: e.find("predict")[0].frames and e.find("predict")[0])
    await model.get_info()  # time enough to stop, were it so
    assert record.state == "open"
    assert gate.waiting == 1
    gate.release()
    _, result = await task
    assert result.stats.stop_reason == "userStopped"
    assert record.tokens == 0


async def test_a_load_is_cancelled_by_the_channels_own_message(emulator, client):
    from lmstudio.json_api import GetOrLoadEndpoint

    types = client.llm._API_TYPES
    endpoint = GetOrLoadEndpoint(SLOW, 60, types.REQUEST_GET_OR_LOAD, types.MODEL_LOAD_CONFIG)
    gate = emulator.gates.hold("loading", after=20)
    async with client.llm._create_channel(endpoint) as channel:
        await gate.reached()
        await channel.cancel()
        with pytest.raises(lms.LMStudioServerError, match="Operation canceled"):
            await channel.wait_for_result()
    assert emulator.find("getOrLoad")[0].cancelled
    gate.release()
    assert (await client.llm.model(TEXT)).identifier == TEXT
    assert [instance.id for instance in emulator.instances] == [TEXT]


async def test_cancelling_the_task_of_a_load_sends_nothing(emulator, client):
    gate = emulator.gates.hold("loading", after=20)
    task = asyncio.create_task(client.llm.model(SLOW))
    await gate.reached()
    task.cancel()
    await asyncio.wait({task})
    gate.release()
    record = await emulator.wait_for(lambda e: e.find("getOrLoad")[0].finished and e.find("getOrLoad")[0])
    assert record.frames == []
    assert [instance.id for instance in emulator.instances] == [SLOW]


async def test_instances_and_unloading(client):
    first = await client.llm.load_new_instance(TEXT)
    second = await client.llm.load_new_instance(TEXT)
    named = await client.llm.load_new_instance(TEXT, "mine")
    assert (first.identifier, second.identifier, named.identifier) == (TEXT, f"{TEXT}:2", "mine")
    await first.unload()
    with pytest.raises(lms.LMStudioServerError) as caught:
        await first.unload()
    assert caught.value.server_error.display_data["code"] == "generic.identifierNotFound"
    with pytest.raises(lms.LMStudioModelNotFoundError):
        await first.respond("Hi")


async def test_an_unknown_model_is_a_server_error(client):
    with pytest.raises(lms.LMStudioServerError) as caught:
        await client.llm.model("nobody/nothing")
    assert caught.value.server_error.display_data["code"] == "generic.pathNotFound"


async def test_a_crash_is_a_server_error(emulator, client):
    model = await client.llm.model(TEXT)
    emulator.configure(crash_after_tokens=3)
    with pytest.raises(lms.LMStudioServerError, match="The model has crashed"):
        await model.respond("Hi")
    assert emulator.instances == []


async def test_unloading_under_a_prediction_ends_it(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=2)
    task = asyncio.create_task(model.respond("Hi"))
    await gate.reached()
    emulator.unload(TEXT)
    assert (await task).stats.stop_reason == "modelUnloaded"


async def test_a_dropped_socket_is_a_websocket_error(emulator, client):
    model = await client.llm.model(TEXT)
    emulator.configure(drop_after_tokens=3)
    with pytest.raises(lms.LMStudioWebsocketError):
        await model.respond("Hi")
    assert emulator.find("predict")[0].reason == "connection dropped"


async def test_all_sockets_can_be_dropped(emulator, client):
    model = await client.llm.model(TEXT)
    emulator.drop_sockets()
    await emulator.wait_for(lambda e: all(r.state != "open" for r in e.requests if r.route.startswith("WS")))
    with pytest.raises(lms.LMStudioWebsocketError):
        await model.respond("Hi")


async def test_api_tokens(make_lmstudio_emulator):
    identifier, passkey = "AbCdEfGh", "0123456789abcdefghij"
    emulator = await make_lmstudio_emulator(tokens=(f"sk-lm-{identifier}:{passkey}",))
    has_tokens = "api_token" in inspect.signature(lms.AsyncClient).parameters
    with pytest.raises(lms.LMStudioServerError if has_tokens else ValueError):
        await lms.AsyncClient(emulator.address).__aenter__()
    if has_tokens:
        client = lms.AsyncClient(emulator.address, api_token=f"sk-lm-{identifier}:{passkey}")
    else:
        client = lms.AsyncClient(emulator.address)
        client._auth_details = client._format_auth_message(identifier, passkey)
    async with client:
        assert (await (await client.llm.model(TEXT)).respond("[[say=ok]]")).content == "ok"
    assert all(record.authenticated for record in emulator.find("predict"))


async def test_packets_and_values_of_a_newer_server(emulator, client):
    import msgspec

    model = await client.llm.model(TEXT)
    emulator.configure(unknown_packet=True)
    with pytest.warns(lms.LMStudioUnknownMessageWarning, match="quantumProgress"):
        await model.respond("Hi")
    emulator.configure(unknown_packet=False, unknown_stop_reason=True)
    with pytest.raises(msgspec.ValidationError, match="budgetReached"):
        await model.respond("Hi")
    emulator.configure(unknown_stop_reason=False, unknown_model_type=True)
    with pytest.raises(lms.LMStudioClientError, match="imageGen"):
        await client.list_downloaded_models()


async def test_eight_predictions_at_once_share_four_slots(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=1)
    tasks = [asyncio.create_task(model.respond(f"[[say=answer {n}]]")) for n in range(8)]
    await gate.reached(4)
    await emulator.wait_for(lambda e: sum(r.phase == "queued" for r in e.find("predict")) == 4)
    assert gate.arrived == 4
    gate.release()
    results = await asyncio.gather(*tasks)
    assert [result.content for result in results] == [f"answer {n}" for n in range(8)]


async def test_a_model_is_downloaded_over_the_repository(client):
    found = await client.repository.search_models("ministral")
    option = (await found[0].get_download_options())[0]
    updates: list = []
    finalized: list = []
    key = await option.download(on_progress=updates.append, on_finalize=lambda: finalized.append(True))
    assert key == "mistralai/ministral-3-3b"
    assert [update.downloaded_bytes for update in updates] == sorted(
        update.downloaded_bytes for update in updates
    )
    assert updates[-1].downloaded_bytes == updates[-1].total_bytes
    assert finalized == [True]
    assert key in [model.model_key for model in await client.list_downloaded_models()]


def test_the_synchronous_client_in_four_threads(lmstudio_emulator_thread):
    emulator = lmstudio_emulator_thread
    answers: dict[int, str] = {}
    with lms.Client(emulator.address) as client:
        model = client.llm.model(TEXT)

        def work(number: int) -> None:
            answers[number] = model.respond(f"[[say=thread {number}]]").content

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"thread {number}" for number in range(4)}


def test_two_loops_one_after_the_other(lmstudio_emulator_thread):
    address = lmstudio_emulator_thread.address

    async def conversation() -> str:
        async with lms.AsyncClient(address) as client:
            return (await (await client.llm.model(TEXT)).respond("[[say=hi]]")).content

    assert [asyncio.run(conversation()) for _ in range(2)] == ["hi", "hi"]
