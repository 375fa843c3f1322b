"""Listing, loading and unloading."""

import pytest

from lmbridge import LoadedInstance, LoadRequest, Progress, UnloadRequest
from lmbridge.errors import (
    AuthenticationFailed,
    InvalidRequest,
    ModelLoadFailed,
    ModelNotFound,
    ServerError,
    UnsupportedFeature,
)

TEXT = "ibm/granite-4-micro"
EMBEDDER = "text-embedding-nomic-embed-text-v1.5"


async def load(provider, context, **fields):
    return [item async for item in provider.load_model(LoadRequest(**fields), context)]


# -- listing -----------------------------------------------------------------------------------------------


async def listed(provider, context):
    return {model.id: model for model in await provider.list_models(context)}


async def test_the_listing_comes_by_rest(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT,))
    models = await listed(provider, make_context(emulator.url))
    assert emulator.find("/api/v1/models")
    text, thinker, seer = models[TEXT], models["qwen/qwen3-4b"], models["qwen3-vl-4b"]
    assert text.loaded[0].id == TEXT
    assert text.loaded[0].context_length == 4096
    assert text.loaded[0].parallel == 4
    assert text.capabilities.images is False
    assert text.capabilities.reasoning is False
    assert text.capabilities.history is True
    assert text.capabilities.conversation is False
    assert thinker.capabilities.reasoning_levels == ("off", "on")
    assert thinker.loaded == ()
    assert seer.capabilities.images is True
    assert models[EMBEDDER].kind == "embedding"
    assert models[EMBEDDER].capabilities.images is False
    assert models["google/gemma-4-26b-a4b"].aliases
    # What the server offers by other routes cannot be set by the SDK.
    assert models["openai/gpt-oss-20b"].capabilities.reasoning_levels == ()


async def test_an_older_server_is_asked_by_the_sdk(emulate, make_context, provider):
    emulator = await emulate(old_server=True, loaded=(TEXT,))
    models = await listed(provider, make_context(emulator.url))
    assert emulator.find("listDownloadedModels")
    assert models[TEXT].loaded[0].context_length == 4096
    assert models["qwen3-vl-4b"].capabilities.images is True
    assert models["qwen3-vl-4b"].capabilities.reasoning is None
    assert models[EMBEDDER].kind == "embedding"
    assert models[TEXT].publisher
    assert models[TEXT].size_bytes


@pytest.mark.parametrize("old", [False, True])
async def test_one_model_of_an_unknown_type_does_not_hide_the_others(emulate, make_context, provider, old):
    emulator = await emulate(unknown_model_type=True, old_server=old)
    models = await listed(provider, make_context(emulator.url))
    assert TEXT in models
    assert [model for model in models.values() if model.kind == "other"]


async def test_loaded_models_alone_if_the_others_are_not_told(scripted, make_context, provider, packets):
    scripted.calls["listLoaded"] = lambda _: [packets.info | {"ttlMs": 90_000}]
    scripted.calls["listDownloadedModels"] = lambda _: RuntimeError({"title": "no", "rootTitle": "no"})
    models = await listed(provider, make_context(scripted.url))
    assert list(models) == ["test/model"]
    assert models["test/model"].loaded[0].ttl == 90


@pytest.mark.parametrize("garbage", [None, {}, 5, "x"])
async def test_a_listing_that_is_none(scripted, make_context, provider, garbage):
    scripted.calls["listDownloadedModels"] = lambda _: garbage
    with pytest.raises(Exception, match="no list") as caught:
        await provider.list_models(make_context(scripted.url))
    assert type(caught.value).__name__ == "ProtocolError"


async def test_entries_that_cannot_be_read_are_passed_over(scripted, make_context, provider, packets):
    scripted.calls["listDownloadedModels"] = lambda _: [None, 5, {}, {"modelKey": 7}, packets.info]
    assert list(await listed(provider, make_context(scripted.url))) == ["test/model"]


async def test_a_listing_that_needs_a_token_says_so(emulate, make_context, provider, packets):
    emulator = await emulate(tokens=(packets.token,))
    with pytest.raises(AuthenticationFailed):
        await provider.list_models(make_context(emulator.url))
    assert await provider.list_models(make_context(emulator.url, api_key=packets.token))


# -- loading -----------------------------------------------------------------------------------------------


async def test_a_load_reports_progress_and_the_copy(emulate, make_context, provider):
    emulator = await emulate()
    items = await load(provider, make_context(emulator.url), model=TEXT, context_length=8192, ttl=60)
    assert items[-1] == LoadedInstance(id=TEXT, context_length=8192, ttl=60)
    progress = items[:-1]
    assert all(isinstance(item, Progress) for item in progress)
    assert progress[0].fraction < 1.0
    assert progress[-1].fraction == 1.0
    (instance,) = emulator.instances
    assert (instance.id, instance.ttl_s) == (TEXT, 60)


async def test_a_load_without_a_ttl_stays(emulate, make_context, provider):
    emulator = await emulate()
    await load(provider, make_context(emulator.url), model=TEXT)
    assert emulator.instances[0].ttl_s is None


@pytest.mark.parametrize("fields", [{}, {"context_length": 4096}, {"config": {"flash_attention": False}}])
async def test_a_copy_that_is_loaded_so_is_used(emulate, make_context, provider, fields):
    emulator = await emulate()
    context = make_context(emulator.url)
    await load(provider, context, model=TEXT, context_length=4096, config={"flashAttention": False})
    items = await load(provider, context, model=TEXT, **fields)
    assert [item.id for item in items] == [TEXT]
    assert len(emulator.instances) == 1


@pytest.mark.parametrize("fields", [{"context_length": 2000}, {"config": {"flash_attention": False}}])
async def test_other_settings_load_another_copy(emulate, make_context, provider, fields):
    emulator = await emulate(loaded=(TEXT,))
    items = await load(provider, make_context(emulator.url), model=TEXT, **fields)
    assert items[-1].id == f"{TEXT}:2"
    assert len(emulator.instances) == 2


async def test_another_copy_of_a_copy_is_loaded_by_the_models_key(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT, TEXT))
    items = await load(provider, make_context(emulator.url), model=f"{TEXT}:2", context_length=2000)
    assert items[-1].id == f"{TEXT}:3"


async def test_embedding_models_are_loaded_in_their_namespace(emulate, make_context, provider):
    emulator = await emulate()
    context = make_context(emulator.url)
    items = await load(provider, context, model=EMBEDDER, context_length=1024)
    assert items[-1].id == EMBEDDER
    assert [item.id for item in await load(provider, context, model=EMBEDDER)] == [EMBEDDER]
    again = await load(provider, context, model=EMBEDDER, context_length=512, config={"tryMmap": True})
    assert again[-1].id == f"{EMBEDDER}:2"


async def test_settings_that_the_sdk_does_not_know_are_refused(scripted, make_context, provider):
    context = make_context(scripted.url)
    with pytest.raises(UnsupportedFeature, match="flash_attenton") as caught:
        await load(provider, context, model="m", config={"flash_attenton": True})
    assert "flashAttention" in caught.value.hint
    with pytest.raises(InvalidRequest, match="refuses"):
        await load(provider, context, model="m", config={"flashAttention": "very"})
    with pytest.raises(InvalidRequest, match="twice"):
        await load(provider, context, model="m", context_length=1, config={"contextLength": 2})
    with pytest.raises(InvalidRequest, match="ttl"):
        await load(provider, context, model="m", ttl=0)
    assert not scripted.frames


async def test_a_load_that_fails(emulate, make_context, provider):
    emulator = await emulate(load_failure=True)
    with pytest.raises(ModelLoadFailed):
        await load(provider, make_context(emulator.url), model=TEXT)


async def test_a_model_that_is_not_there_cannot_be_loaded(emulate, make_context, provider):
    emulator = await emulate()
    with pytest.raises(ModelNotFound):
        await load(provider, make_context(emulator.url), model="no/such")


async def test_a_copy_whose_settings_cannot_be_read_is_not_used(scripted, make_context, provider, packets):
    scripted.calls["listLoaded"] = lambda _: [packets.info]
    bad = {"fields": [{"key": "llm.load.llama.flashAttention", "value": "auto"}]}
    scripted.calls["getLoadConfig"] = lambda _: bad
    scripted.channels["loadModel"] = lambda channel: channel.send(
        {"type": "success", "info": packets.info | {"identifier": "test/model:2"}}
    )
    items = await load(
        provider, make_context(scripted.url), model="test/model", config={"flashAttention": True}
    )
    assert items[-1].id == "test/model:2"


# -- unloading ---------------------------------------------------------------------------------------------


async def test_all_copies_of_a_model_go(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT, TEXT, "qwen/qwen3-4b"))
    gone = await provider.unload_model(UnloadRequest(model=TEXT), make_context(emulator.url))
    assert sorted(gone) == [TEXT, f"{TEXT}:2"]
    assert [instance.id for instance in emulator.instances] == ["qwen/qwen3-4b"]


async def test_one_copy_goes(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT, TEXT))
    assert await provider.unload_model(UnloadRequest(model=f"{TEXT}:2"), make_context(emulator.url)) == [
        f"{TEXT}:2"
    ]
    assert [instance.id for instance in emulator.instances] == [TEXT]


async def test_embedding_models_go(emulate, make_context, provider):
    emulator = await emulate(loaded=(EMBEDDER,))
    assert await provider.unload_model(UnloadRequest(model=EMBEDDER), make_context(emulator.url)) == [
        EMBEDDER
    ]
    assert not emulator.instances


async def test_what_is_not_loaded_cannot_be_unloaded(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT,))
    with pytest.raises(ModelNotFound) as caught:
        await provider.unload_model(UnloadRequest(model="no/such-model"), make_context(emulator.url))
    assert TEXT in caught.value.hint


async def test_a_model_that_is_not_loaded_needs_no_unload(emulate, make_context, provider):
    emulator = await emulate(loaded=(TEXT,))
    context = make_context(emulator.url)
    assert await provider.unload_model(UnloadRequest(model="qwen/qwen3-4b"), context) == []
    assert [instance.id for instance in emulator.instances] == [TEXT]


async def test_a_variant_is_loaded_and_unloaded_by_its_key(emulate, make_context, provider):
    emulator = await emulate(variant_ids=False)
    context = make_context(emulator.url)
    request = LoadRequest(model="google/gemma-4-26b-a4b@q4_k_m")
    items = [item async for item in provider.load_model(request, context)]
    assert items[-1].id == "google/gemma-4-26b-a4b"
    gone = await provider.unload_model(UnloadRequest(model="google/gemma-4-26b-a4b@q4_k_m"), context)
    assert gone == ["google/gemma-4-26b-a4b"]


async def test_a_copy_that_somebody_else_unloaded_meanwhile_is_gone(
    scripted, make_context, provider, packets
):
    scripted.calls["listLoaded"] = lambda _: [packets.info]
    error = {"title": "x", "rootTitle": "x", "displayData": {"code": "generic.identifierNotFound"}}
    scripted.calls["unloadModel"] = lambda _: RuntimeError(error)
    assert "test/model" in await provider.unload_model(
        UnloadRequest(model="test/model"), make_context(scripted.url)
    )


async def test_an_unload_that_fails_is_an_error(scripted, make_context, provider, packets):
    scripted.calls["listLoaded"] = lambda _: [packets.info]
    scripted.calls["unloadModel"] = lambda _: RuntimeError(
        {"title": "it is stuck", "rootTitle": "it is stuck"}
    )
    with pytest.raises(ServerError, match="it is stuck"):
        await provider.unload_model(UnloadRequest(model="test/model"), make_context(scripted.url))
