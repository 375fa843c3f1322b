"""Work that is told to stop, never cancelled."""

import asyncio

import httpx_ws
import pytest

from lmbridge import LoadRequest, PluginError, Progress
from lmbridge_lmstudio_sdk import connecting
from lmbridge_lmstudio_sdk.jobs import Job
from lmbridge_lmstudio_sdk.translation import translate


def job_of(work):
    return Job(work, lambda exc: translate(exc, "host:1"))


async def everything(job):
    items = []
    while batch := await job.mailbox.take():
        items += batch
    return items


async def test_a_burst_is_passed_on_together_and_in_order():
    async def work(job):
        for number in range(1000):
            job.put([number])

    job = job_of(work)
    batches = []
    while batch := await job.mailbox.take():
        batches.append(batch)
    assert [item for batch in batches for item in batch] == list(range(1000))
    assert len(batches) < 100


async def test_an_item_after_a_pause_is_passed_on_at_once():
    more = asyncio.Event()

    async def work(job):
        job.put([1])
        job.put([2])
        await more.wait()

    job = job_of(work)
    got = await job.mailbox.take()
    while len(got) < 2:
        got += await job.mailbox.take()  # the second did not have to wait for the end
    assert got == [1, 2]
    more.set()
    assert await job.mailbox.take() == []


async def test_items_come_before_the_error():
    async def work(job):
        job.put([1])
        job.put([2])
        raise KeyError("x")

    job = job_of(work)
    got = await job.mailbox.take()
    while len(got) < 2:
        got += await job.mailbox.take()
    assert got == [1, 2]
    with pytest.raises(PluginError, match="KeyError"):
        await job.mailbox.take()


async def test_the_end_of_the_loop_is_no_silence():
    async def work(_):
        await asyncio.Event().wait()

    job = job_of(work)
    await asyncio.sleep(0)
    job._task.cancel()
    with pytest.raises(Exception, match="ending"):
        await everything(job)


async def test_nothing_is_passed_on_after_the_stop():
    more = asyncio.Event()

    async def work(job):
        await more.wait()
        job.put([1])

    job = job_of(work)
    await job.stop()
    more.set()
    assert await everything(job) == []


async def test_left_while_the_prompt_is_counted_nothing_is_predicted(scripted, make_context, provider, ask):
    counting = asyncio.Event()

    def template(_):
        counting.set()
        return {"formatted": "x"}

    scripted.calls["applyPromptTemplate"] = template
    scripted.calls["countTokens"] = lambda _: {"tokenCount": 1}
    context = make_context(scripted.url)
    task = asyncio.create_task(anext(provider.stream(ask.request("word " * 4000), context)))
    await counting.wait()
    task.cancel()
    await asyncio.wait({task})
    await scripted.wait_for(lambda: scripted.sent("countTokens"))
    await provider.health(context)
    assert not scripted.sent("predict")


async def test_left_while_the_request_is_written_the_cancel_follows_it(
    scripted, make_context, provider, *, ask, monkeypatch
):

    send, writing, go_on = httpx_ws.AsyncWebSocketSession.send_json, asyncio.Event(), asyncio.Event()

    async def slowly(self, data, mode="text"):
        if data.get("endpoint") == "predict":
            writing.set()
            await go_on.wait()
        await send(self, data, mode)

    monkeypatch.setattr(httpx_ws.AsyncWebSocketSession, "send_json", slowly)
    scripted.channels["predict"] = lambda channel: channel.cancelled()
    task = asyncio.create_task(anext(provider.stream(ask.request(), make_context(scripted.url))))
    await writing.wait()
    task.cancel()
    await asyncio.wait({task})
    go_on.set()
    await scripted.wait_for(lambda: scripted.sent("channelSend"))
    assert scripted.sent("channelSend")[0]["message"] == {"type": "cancel"}


async def test_left_while_a_load_is_asked_for_nothing_is_loaded(
    scripted, make_context, provider, *, packets, monkeypatch
):

    asked, go_on = asyncio.Event(), asyncio.Event()

    def listed(_):
        asked.set()
        return []

    scripted.calls["listDownloadedModels"] = listed
    context = make_context(scripted.url)
    task = asyncio.create_task(anext(provider.load_model(LoadRequest(model="m"), context)))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    go_on.set()
    await provider.health(context)
    assert not scripted.sent("loadModel")


async def test_a_socket_that_cannot_be_closed_is_left_behind(
    scripted, make_context, ask, *, resources, monkeypatch
):
    monkeypatch.setattr(connecting, "_CLOSE_SECONDS", 0.01)
    await ask(make_context(scripted.url))

    async def hang(*_, **__):
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(httpx_ws.AsyncWebSocketSession, "close", hang)
        async with asyncio.timeout(30):
            await resources.close()


async def test_progress_reaches_the_reader_while_the_load_goes_on(
    scripted, make_context, provider, *, ask, packets
):
    go_on = asyncio.Event()

    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await channel.send({"type": "loadProgress", "progress": 0.5})
        await go_on.wait()
        await channel.send({"type": "loadSuccess", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    stream = provider.stream(ask.request(), make_context(scripted.url))
    got = []
    while Progress("loading model", 0.5) not in got:
        got += await anext(stream)
    go_on.set()
    await stream.aclose()
