"""Several requests at once: slots, queues, and models that push each other out of memory."""

import asyncio

import pytest

import lmbridge

GRANITE, QWEN, SEER = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"


async def test_more_requests_than_slots_break_the_server(make_stand, via):
    """With one slot there is no queue, and a full cache of keys and values kills all requests at once.

    Source: lmstudio-bug-tracker#1653, #1628, #2255.
    """
    stand = await make_stand(loaded=(GRANITE,), parallel=2)
    gate = stand.emulator.gates.hold("answering")
    calls = [asyncio.ensure_future(stand.ask(via, f"[[say={n}]]")) for n in "abcde"]
    await gate.reached()
    await stand.emulator.wait_for(lambda _: len(stand.predictions) >= 2)
    assert len(stand.predictions) == 2
    gate.release()
    assert [result.text for result in await asyncio.gather(*calls)] == list("abcde")


async def test_a_long_prompt_blocks_the_others(make_stand, via):
    """While one prompt is read all others wait; a client takes their silence for a hang.

    Source: lmstudio-bug-tracker#1709.
    """
    stand = await make_stand(loaded=(GRANITE,), parallel=1)
    gate = stand.emulator.gates.hold("prompt")
    first = asyncio.ensure_future(stand.ask(via, "[[say=first]]"))
    await gate.reached()
    request = lmbridge.Request(model=GRANITE, messages=[lmbridge.Message.user("[[say=second]]")])
    async with stand.bridge.stream(via, request) as events:
        assert await anext(events) == lmbridge.Progress("queued")
        gate.release()
        assert [event async for event in events][-1].reason == "stop"
    assert (await first).text == "first"


async def test_a_load_for_one_request_kills_the_answer_of_another(make_stand, via):
    """Automatic eviction unloads a model that is generating, to load the one that another request names.

    Source: lmstudio-bug-tracker#1796, #671, #644.
    """
    stand = await make_stand(auto_evict=True)
    await stand.ask(via, model=GRANITE)  # loaded on request, so it may be evicted
    gate = stand.emulator.gates.hold("answering", model=GRANITE)
    first = asyncio.ensure_future(stand.ask(via, "[[say=undisturbed]]", model=GRANITE))
    await gate.reached()
    second = asyncio.ensure_future(stand.ask(via, "[[say=my turn]]", model=QWEN))
    await asyncio.wait({first, second}, timeout=0.3)  # the second must not have begun
    assert [record.model for record in stand.predictions[1:]] == [GRANITE]
    gate.release()
    assert (await first).text == "undisturbed"
    assert (await second).text == "my turn"


@pytest.mark.parametrize("embedder", ["sdk", "compat"])
async def test_a_model_for_vectors_pushes_the_chat_model_out(make_stand, via, embedder):
    """A model for embeddings that a request loads evicts the chat model, even one that is answering.

    Source: LM Studio docs, core/ttl-and-auto-evict; lmstudio-bug-tracker#1796.
    """
    stand = await make_stand(auto_evict=True)
    await stand.ask(via, model=GRANITE)
    await stand.ask(embedder, model=GRANITE)  # by now this connection knows what is loaded
    gate = stand.emulator.gates.hold("answering", model=GRANITE)
    answer = asyncio.ensure_future(stand.ask(via, "[[say=undisturbed]]", model=GRANITE))
    await gate.reached()
    texts = lmbridge.EmbedRequest(texts=["x"], model="text-embedding-nomic-embed-text-v1.5")
    vectors = asyncio.ensure_future(stand.bridge.embed(embedder, texts))
    await asyncio.wait({answer, vectors}, timeout=0.3)
    gate.release()
    assert (await answer).text == "undisturbed"
    assert len((await vectors).vectors) == 1


@pytest.mark.parametrize("other", ["sdk", "rest", "compat"])
async def test_another_connection_to_the_same_server_loads_its_model(make_stand, via, other):
    """Two connections to one machine push each other's models out just as two requests of one do.

    Source: lmstudio-bug-tracker#1796.
    """
    stand = await make_stand(auto_evict=True)
    await stand.ask(via, model=GRANITE)
    gate = stand.emulator.gates.hold("answering", model=GRANITE)
    first = asyncio.ensure_future(stand.ask(via, "[[say=undisturbed]]", model=GRANITE))
    await gate.reached()
    second = asyncio.ensure_future(stand.ask(other, "[[say=my turn]]", model=QWEN))
    await asyncio.wait({first, second}, timeout=0.3)
    gate.release()
    assert [(await first).text, (await second).text] == ["undisturbed", "my turn"]


async def test_models_that_are_both_loaded_answer_side_by_side(make_stand, via):
    """Who takes turns for fear of eviction makes two loaded models wait for each other without need.

    Source: LM Studio docs, core/ttl-and-auto-evict.
    """
    stand = await make_stand(loaded=(GRANITE, QWEN))
    gate = stand.emulator.gates.hold("answering", model=GRANITE)
    first = asyncio.ensure_future(stand.ask(via, "[[say=slow]]", model=GRANITE))
    await gate.reached()
    assert (await stand.ask(via, "[[say=quick]]", model=QWEN)).text == "quick"
    gate.release()
    assert (await first).text == "slow"


async def test_freeing_the_memory_before_other_work(make_stand, via):
    """A picture generator needs the memory now; ``lms unload --all`` in a shell is what people resort to.

    Source: lmstudio-bug-tracker#517, #1680; lmstudio-js#267; hekmon/comfyui-openai-api#6.
    """
    stand = await make_stand()
    await stand.ask(via)
    if via == "compat":  # the compatible routes have no unload
        with pytest.raises(lmbridge.UnsupportedFeature) as caught:
            await stand.bridge.unload_model(via, GRANITE)
        assert caught.value.hint
        return
    assert await stand.bridge.unload_model(via, GRANITE) == (GRANITE,)
    assert not stand.emulator.instances
