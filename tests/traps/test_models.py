"""Lists that break, loads that double the memory, models that go or never go, names that mean another."""

import asyncio

import pytest

import lmbridge
from lmbridge import LoadRequest, Options
from lmbridge.emulator import FakeClock

GRANITE, QWEN, GEMMA = "ibm/granite-4-micro", "qwen/qwen3-4b", "google/gemma-4-26b-a4b"
VARIANT = "google/gemma-4-26b-a4b@q4_k_m"
LOADERS = pytest.mark.parametrize("via", ["sdk", "rest"])


async def test_one_model_of_an_unknown_kind_empties_the_whole_list(make_stand, via):
    """One entry of a kind that the SDK does not know makes its whole listing raise.

    Source: lmstudio-python (list_downloaded_models with "imageGen" or "drafter").
    """
    stand = await make_stand(unknown_model_type=True)
    listing = await stand.bridge.list_models(via)
    kinds = {model.id: model.kind for model in listing.models}
    assert not listing.errors
    assert kinds[GRANITE] == "llm"
    assert "other" in kinds.values() or via == "compat"  # the compatible list leaves it out


async def test_the_context_is_that_of_the_loaded_copy(make_stand, via):
    """``max_context_length`` is what a model could hold; loaded it usually has far less.

    Source: cline/cline#13472; co-l/openfox#49; openclaw/openclaw#141357.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=2048)
    listing = await stand.bridge.list_models(via)
    model = next(model for model in listing.models if model.id == GRANITE)
    assert model.loaded[0].context_length == 2048
    assert model.max_context_length > 2048


async def test_the_compatible_list_tells_nothing_but_names(make_stand, via):
    """``/v1/models`` says nothing of vision, context, or what is loaded.

    Source: LM Studio docs, openai-compat/models.
    """
    stand = await make_stand(loaded=("qwen3-vl-4b",))
    models = {model.id: model for model in (await stand.bridge.list_models(via)).models}
    assert models["qwen3-vl-4b"].capabilities.images
    assert models["qwen3-vl-4b"].loaded
    assert models[GRANITE].capabilities.images is False


async def test_a_model_is_named_that_is_not_there(make_stand, via):
    """The error lists some models in a sentence; which of them was meant is left to the reader.

    Source: lmstudio-bug-tracker#619 (Invalid model identifier).
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.ModelNotFound) as caught:
        await stand.ask(via, model="qwen/qwen3-4bb")
    assert QWEN in caught.value.near


async def test_nothing_is_loaded_and_nothing_may_be_loaded_by_a_request(make_stand, via):
    """With just-in-time loading off a request for a model that is not loaded fails.

    Source: lmstudio-bug-tracker#1730, #1217.
    """
    stand = await make_stand(jit=False)
    if via == "sdk":  # its own load is no JIT load
        assert (await stand.ask(via, "[[say=loaded by us]]")).text == "loaded by us"
        return
    with pytest.raises(lmbridge.ModelNotFound) as caught:
        await stand.ask(via)
    assert "load" in caught.value.hint


@pytest.mark.parametrize("via", ["rest", "compat"])
async def test_another_model_is_loaded_and_this_one_may_not_be(make_stand, via):
    """Without just-in-time loading the error lists the loaded models, by lines.

    Source: lmstudio-bug-tracker#1730 (Your models: …).
    """
    stand = await make_stand(jit=False, loaded=(GRANITE,))
    with pytest.raises(lmbridge.ModelNotFound) as caught:
        await stand.ask(via, model=QWEN)
    assert QWEN in caught.value.model
    assert caught.value.hint


async def test_a_load_that_fails_looks_like_a_missing_model(make_stand, via):
    """LM Studio answers 404 when it has too little memory for a model that it has.

    Source: agent-zero#215.
    """
    stand = await make_stand(load_failure=True)
    with pytest.raises(lmbridge.ModelLoadFailed, match="system resources") as caught:
        await stand.ask(via)
    assert caught.value.hint


@LOADERS
async def test_loading_a_loaded_model_takes_its_memory_twice(make_stand, via):
    """A second load makes a second copy, ``key:2``, instead of using the first.

    Source: lmstudio-bug-tracker#1582, #168, #634.
    """
    stand = await make_stand(loaded=(GRANITE,))
    copy = await stand.bridge.load_model(via, LoadRequest(model=GRANITE))
    assert copy.id == GRANITE
    assert [instance.id for instance in stand.emulator.instances] == [GRANITE]


@LOADERS
async def test_unloading_needs_the_id_of_the_copy(make_stand, via):
    """The server unloads by the copy's id; a model's key means its first copy only, or nothing.

    Source: LM Studio docs, rest/unload; lmstudio-bug-tracker#517; lmstudio-js#267.
    """
    stand = await make_stand(loaded=(GRANITE, GRANITE))
    assert [instance.id for instance in stand.emulator.instances] == [GRANITE, f"{GRANITE}:2"]
    gone = await stand.bridge.unload_model(via, GRANITE)
    assert sorted(gone) == [GRANITE, f"{GRANITE}:2"]
    assert not stand.emulator.instances


@LOADERS
async def test_unloading_twice_is_an_error_of_the_server(make_stand, via):
    """What is gone already cannot be unloaded; a program that frees memory wants exactly that state.

    Source: lmstudio-python (generic.identifierNotFound).
    """
    stand = await make_stand(loaded=(GRANITE,))
    assert await stand.bridge.unload_model(via, GRANITE) == (GRANITE,)
    assert await stand.bridge.unload_model(via, GRANITE) == ()


@LOADERS
async def test_a_load_by_the_api_never_expires(make_stand, via):
    """A load that names no idle time stays for ever; the native REST API takes none at all.

    Source: openclaw#75921, #77038; lmstudio-bug-tracker#1782.
    """
    stand = await make_stand(clock=FakeClock())
    request = LoadRequest(model=GRANITE, ttl=60)
    if via == "rest":
        with pytest.raises(lmbridge.UnsupportedFeature) as caught:
            await stand.bridge.load_model(via, request)
        assert "lmstudio-sdk" in caught.value.hint
        return
    await stand.bridge.load_model(via, request)
    stand.emulator.clock.advance(61)
    assert not stand.emulator.instances


async def test_load_settings_are_ignored_for_a_model_that_is_loaded(make_stand):
    """The SDK's ``model(key, config=…)`` silently ignores the settings if the model is there already.

    Source: lmstudio-python docs (get-or-load); lmstudio-bug-tracker#2061, #1714.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=4096)
    result = await stand.ask("sdk", options=Options(context_length=8192))
    assert any("4096" in note and "8192" in note for note in result.notes)


async def test_a_context_length_counts_only_for_the_load_that_it_causes(make_stand):
    """``context_length`` of ``/api/v1/chat`` changes nothing for a model that is loaded.

    Source: LM Studio docs, rest/chat.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=4096)
    result = await stand.ask("rest", options=Options(context_length=8192))
    assert any("4096" in note and "8192" in note for note in result.notes)


@LOADERS
async def test_a_load_setting_that_the_server_does_not_know(make_stand, via):
    """KV-cache quantisation and slots are refused by the strict route, and silently dropped by the SDK.

    Source: lmstudio-bug-tracker#2024.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature) as caught:
        await stand.bridge.load_model(via, LoadRequest(model=GRANITE, config={"maxParallel": 2}))
    assert caught.value.hint
    assert not stand.emulator.instances


async def test_any_setting_of_the_gpu_overrides_the_split_over_several_cards(make_stand):
    """The SDK sends ``load.gpuSplitConfig`` with any setting of the GPU, over the user's own.

    Source: lmstudio-python (LlmLoadModelConfig.gpu).
    """
    stand = await make_stand()
    await stand.ask("sdk", options=Options(context_length=4096))
    load = stand.emulator.find("getOrLoad")[-1].body
    keys = {
        field["key"] for layer in load["loadConfigStack"]["layers"] for field in layer["config"]["fields"]
    }
    assert keys == {"llm.load.contextLength"}


async def test_cancelling_a_load_of_the_sdk_sends_nothing(make_stand):
    """The model ends up loaded although its load was cancelled.

    Source: lmstudio-python (AsyncSessionLlm.model).
    """
    stand = await make_stand()
    gate = stand.emulator.gates.hold("loading", after=1)
    load = asyncio.ensure_future(stand.bridge.load_model("sdk", LoadRequest(model=GRANITE)))
    await gate.reached()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    gate.release()
    await stand.emulator.wait_for(lambda emulator: not emulator.loading)
    await stand.emulator.wait_for(lambda emulator: not emulator.instances)


async def test_a_load_of_the_native_api_cannot_be_cancelled(make_stand):
    """``/api/v1/models/load`` blocks, and goes on when its client has left.

    Source: LM Studio docs, rest/load; lmstudio-bug-tracker#1826.
    """
    stand = await make_stand()
    gate = stand.emulator.gates.hold("loading", after=1)
    load = asyncio.ensure_future(stand.bridge.load_model("rest", LoadRequest(model=GRANITE)))
    await gate.reached()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    gate.release()
    await stand.emulator.wait_for(lambda emulator: not emulator.loading and not emulator.instances)


async def test_a_variant_is_no_name_for_a_model(make_stand, via):
    """The id of a variant, ``key@q4_k_m``, gives false errors in load and chat.

    Source: openclaw#95401; lms#419.
    """
    stand = await make_stand(variant_ids=False)
    result = await stand.ask(via, "[[say=here]]", model=VARIANT)
    assert result.text == "here"
    assert not any("instead of" in note for note in result.notes)


@pytest.mark.parametrize("via", ["rest", "compat"])
async def test_the_one_loaded_model_answers_to_any_name(make_stand, via):
    """With exactly one model loaded, a request for another is silently served by it.

    Source: lmstudio-bug-tracker#619, #1217.
    """
    stand = await make_stand(loaded=(GRANITE,), wrong_model_served=True)
    result = await stand.ask(via, "[[say=who am I?]]", model="gpt-4o-mini")
    assert any("instead of 'gpt-4o-mini'" in note for note in result.notes)


async def test_another_model_answers_than_the_handle_was_for(make_stand):
    """The SDK's result names the model that answered; nobody compares it with the one asked for.

    Source: lmstudio-bug-tracker#619.
    """
    stand = await make_stand(loaded=(GRANITE,), meddle=True)

    def frame(frame):
        message = frame.get("message", {})
        if message.get("type") == "success":
            message["modelInfo"] |= {"identifier": QWEN, "modelKey": QWEN}
        return (frame,)

    stand.meddler.frame = frame
    result = await stand.ask("sdk")
    assert any(f"{QWEN!r} answered instead" in note for note in result.notes)


async def test_a_copy_of_the_model_is_the_same_model(make_stand, via):
    """The id that answers may be ``key:2``: the model that was asked for, and no other.

    Source: openclaw/openclaw#141357; lms#419.
    """
    stand = await make_stand(loaded=(GRANITE, GRANITE))
    result = await stand.ask(via, "[[say=here]]", model=f"{GRANITE}:2")
    assert (result.text, result.notes) == ("here", ())
    assert result.model == f"{GRANITE}:2"
    stand.emulator.unload(GRANITE)
    result = await stand.ask(via, "[[say=here]]", model=GRANITE)
    assert not [note for note in result.notes if "instead of" in note]


async def test_a_model_expires_between_two_calls(make_stand, via):
    """The handle of an SDK's model is dead once the model was unloaded for idleness.

    Source: lmstudio-python (generic.noModelMatchingQuery); lmstudio-bug-tracker#1782.
    """
    clock = FakeClock()
    stand = await make_stand(clock=clock)
    await stand.ask(via)
    clock.advance(3601)
    assert not stand.emulator.instances
    assert (await stand.ask(via, "[[say=loaded again]]")).text == "loaded again"


async def test_a_model_is_unloaded_in_the_middle_of_its_answer(make_stand, via):
    """Another program, or the automatic eviction, unloads a model that is generating.

    Source: lmstudio-bug-tracker#1796, #671, #644.
    """
    stand = await make_stand(loaded=(GRANITE,))
    gate = stand.emulator.gates.hold("answering", after=3)
    answer = asyncio.ensure_future(stand.until_error(via, "[[words=20]]"))
    await gate.reached()
    stand.emulator.unload(GRANITE)
    gate.release()
    partial, error = await answer
    assert isinstance(error, lmbridge.ServerError | lmbridge.ProtocolError)
    assert error.retryable
    assert error.hint
    assert partial.text


async def test_a_download_that_is_there_already_has_no_job(make_stand):
    """The answer to a download of a model that is there lacks the job's id and its size.

    Source: LM Studio docs, rest/download.
    """
    stand = await make_stand()
    status = await stand.bridge.download_model("rest", lmbridge.DownloadRequest(model=GRANITE))
    assert (status.state, status.job_id) == ("already_downloaded", None)


async def test_the_native_api_has_no_embeddings_and_counts_no_tokens(make_stand):
    """REST v1 has neither; the compatible routes and the SDK do.

    Source: LM Studio docs, rest/index.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature) as caught:
        await stand.bridge.embed("rest", lmbridge.EmbedRequest(texts=["x"]))
    assert caught.value.hint
    with pytest.raises(lmbridge.UnsupportedFeature):
        await stand.bridge.count_tokens("rest", lmbridge.CountRequest(text="x", model=GRANITE))
