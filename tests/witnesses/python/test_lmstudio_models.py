"""LM Studio's asynchronous Python client: lists, loads and information about models."""

import lmstudio as lms
import pytest

from lmbridge.emulator import FakeClock

TEXT, BOTH, SLOW = "ibm/granite-4-micro", "google/gemma-4-26b-a4b", "meta/llama-3.3-70b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"


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


async def test_embeddings(client):
    model = await client.embedding.model(EMBEDDING)
    one = await model.embed("hello")
    assert len(one) == 768
    assert await model.embed(["hello", "world"]) == [one, await model.embed("world")]


async def test_templates_and_tokens_agree(client):
    model = await client.llm.model(TEXT)
    chat = lms.Chat("Be kind")
    chat.add_user_message("Hello")
    prompt = await model.apply_prompt_template(chat)
    assert "Be kind" in prompt
    stats = (await model.respond(chat)).stats
    assert stats.prompt_tokens_count == await model.count_tokens(prompt) == len(await model.tokenize(prompt))
    assert await model.tokenize(["a b", "c"]) == [await model.tokenize("a b"), await model.tokenize("c")]
    embedder = await client.embedding.model(EMBEDDING)
    assert await embedder.count_tokens("a b") == len(await embedder.tokenize("a b"))
    assert await embedder.get_context_length() == 2048


async def test_any_loaded_model_or_none(emulator, client):
    with pytest.raises(lms.LMStudioClientError, match="No models are currently loaded"):
        await client.llm.model()
    await client.llm.load_new_instance(TEXT, "mine")
    assert (await client.llm.model()).identifier == "mine"
    assert [entry.identifier for entry in await client.embedding.list_loaded()] == []


async def test_models_of_the_other_kind(client):
    with pytest.raises(lms.LMStudioServerError, match="domain"):
        await client.llm.model(EMBEDDING)
    with pytest.raises(lms.LMStudioServerError, match="domain"):
        await client.embedding.model(TEXT)


async def test_a_load_that_fails(emulator, client):
    emulator.configure(load_failure=True)
    progress: list[float] = []
    with pytest.raises(lms.LMStudioServerError, match="insufficient system resources"):
        await client.llm.model(TEXT, on_load_progress=progress.append)
    assert 0 < progress[-1] < 1
    with pytest.raises(lms.LMStudioServerError, match="insufficient system resources"):
        await client.llm.load_new_instance(TEXT)
    assert emulator.instances == []


async def test_a_model_is_unloaded_when_its_time_is_over(make_lmstudio_emulator):
    clock = FakeClock()
    emulator = await make_lmstudio_emulator(clock=clock)
    async with lms.AsyncClient(emulator.address) as client:
        short = await client.llm.load_new_instance(TEXT, "short", ttl=60)
        await client.llm.load_new_instance(TEXT, "for ever", ttl=None)
        clock.advance(59)
        await short.respond("Hi")  # its time begins anew
        clock.advance(59)
        assert len(await client.llm.list_loaded()) == 2
        clock.advance(60)
        assert [model.identifier for model in await client.llm.list_loaded()] == ["for ever"]
        with pytest.raises(lms.LMStudioModelNotFoundError):
            await short.respond("Hi")


async def test_a_model_that_was_loaded_on_request_gives_way(emulator, client):
    first = await client.llm.model(TEXT)
    await client.llm.load_new_instance(TEXT, "by hand")
    await client.llm.model(BOTH)
    assert [instance.id for instance in emulator.instances] == ["by hand", BOTH]
    with pytest.raises(lms.LMStudioModelNotFoundError):
        await first.respond("Hi")


async def test_load_settings_come_back(client):
    settings = {
        "contextLength": 9000,
        "evalBatchSize": 64,
        "flashAttention": True,
        "gpu": {"ratio": 0.5},
        "seed": 3,
        "tryMmap": False,
        "keepModelInMemory": False,
    }
    model = await client.llm.load_new_instance(TEXT, config=settings)
    config = await model.get_load_config()
    assert (config.context_length, config.eval_batch_size, config.flash_attention) == (9000, 64, True)
    assert (config.gpu.ratio, config.seed) == (0.5, 3)
    assert (config.try_mmap, config.keep_model_in_memory) == (False, False)
