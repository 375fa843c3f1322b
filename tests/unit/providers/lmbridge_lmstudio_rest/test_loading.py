"""Loading and unloading."""

import asyncio

import pytest

from lmbridge.catalog import LoadedInstance
from lmbridge.errors import (
    ModelNotFound,
    ProtocolError,
    ServerError,
    UnsupportedFeature,
)
from lmbridge.events import Progress
from lmbridge.operations import LoadRequest, UnloadRequest


class Studio:
    """A server that loads and unloads, with what went wrong at real ones on demand."""

    def __init__(self):
        self.loaded = {"gemma": {"gemma": {"context_length": 4096, "flash_attention": True}}, "granite": {}}
        self.keeps_listing = False
        self.confirms = True
        self.load_may_end = asyncio.Event()
        self.load_may_end.set()
        self.load_began = asyncio.Event()
        self.unloaded = asyncio.Event()

    @property
    def scripts(self):
        return {
            "GET /api/v1/models": self.models,
            "POST /api/v1/models/load": self.load,
            "POST /api/v1/models/unload": self.unload,
        }

    async def models(self, exchange):
        entries = [
            {
                "type": "llm",
                "key": key,
                "loaded_instances": [{"id": name, "config": config} for name, config in copies.items()],
                "variants": [f"{key}@q4"],
                "selected_variant": f"{key}@q4",
            }
            for key, copies in self.loaded.items()
        ]
        await exchange.json({"models": entries})

    async def load(self, exchange):
        key = exchange.body["model"]
        strange = set(exchange.body) - {"model", "context_length", "flash_attention", "echo_load_config"}
        if strange:
            message = f"Unrecognized key(s) in object: '{strange.pop()}'"
            await exchange.json({"error": {"message": message, "code": "unrecognized_keys"}}, 400)
            return
        if key not in self.loaded:
            await exchange.json(
                {"error": {"type": "model_not_found", "message": f'Model "{key}" not found.'}}, 404
            )
            return
        self.load_began.set()
        await self.load_may_end.wait()
        copies = self.loaded[key]
        name = f"{key}:{len(copies) + 1}" if copies else key
        copies[name] = {"context_length": exchange.body.get("context_length", 2048)}
        await exchange.json({"instance_id": name, "status": "loaded", "load_config": copies[name]})

    async def unload(self, exchange):
        name = exchange.body["instance_id"]
        owner = next((copies for copies in self.loaded.values() if name in copies), None)
        if owner is None:
            await exchange.json({"error": {"type": "model_not_found", "message": "not found"}}, 404)
            return
        if not self.keeps_listing:
            del owner[name]
        await exchange.json({"instance_id": name} if self.confirms else {})
        self.unloaded.set()


@pytest.fixture
async def studio(serve, rest):
    studio = Studio()
    studio.server = await serve(studio.scripts)
    studio.context = rest.context(studio.server.url)
    return studio


def paths(studio):
    return [exchange.path.rpartition("/")[2] for exchange in studio.server.seen]


async def load(rest, studio, **fields):
    return [item async for item in rest.plugin.load_model(LoadRequest(**fields), studio.context)]


# Loading


async def test_a_load_tells_that_it_loads_and_returns_the_copy(rest, studio):
    items = await load(rest, studio, model="granite", context_length=8192)
    assert items == [Progress("loading model"), LoadedInstance(id="granite", context_length=8192)]
    assert studio.server.seen[-1].body == {
        "model": "granite",
        "echo_load_config": True,
        "context_length": 8192,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gemma"},
        {"model": "gemma", "context_length": 4096},
        {"model": "gemma", "config": {"flash_attention": True}},
        {"model": "gemma@q4"},
    ],
)
async def test_a_loaded_copy_that_fits_is_used_not_doubled(rest, studio, fields):
    assert await load(rest, studio, **fields) == [LoadedInstance(id="gemma", context_length=4096)]
    assert paths(studio) == ["models"]


@pytest.mark.parametrize(
    "fields",
    [{"model": "gemma", "context_length": 9}, {"model": "gemma", "config": {"flash_attention": False}}],
)
async def test_a_copy_with_other_settings_does_not_fit(rest, studio, fields):
    *_, copy = await load(rest, studio, **fields)
    assert copy.id == "gemma:2"


async def test_the_id_of_a_copy_means_this_copy(rest, studio):
    studio.loaded["gemma"]["gemma:2"] = {"context_length": 8192}
    assert await load(rest, studio, model="gemma:2") == [LoadedInstance(id="gemma:2", context_length=8192)]
    *_, copy = await load(rest, studio, model="gemma:2", context_length=4096)
    assert (copy.id, studio.server.seen[-1].body["model"]) == ("gemma:3", "gemma")


async def test_a_variant_is_loaded_by_its_key(rest, studio):
    await load(rest, studio, model="granite@q4")
    assert studio.server.seen[-1].body["model"] == "granite"


async def test_an_idle_time_limit_is_refused_before_anything_is_sent(rest, studio):
    with pytest.raises(UnsupportedFeature) as caught:
        await load(rest, studio, model="granite", ttl=60)
    assert caught.value.features == ("ttl",)
    assert studio.server.seen == []


async def test_a_setting_that_the_strict_route_refuses_is_named(rest, studio):
    with pytest.raises(UnsupportedFeature) as caught:
        await load(rest, studio, model="granite", config={"max_parallel": 2})
    assert caught.value.features == ("max_parallel",)


async def test_an_unknown_model_cannot_be_loaded(rest, studio):
    with pytest.raises(ModelNotFound):
        await load(rest, studio, model="nope")


async def test_a_load_without_the_id_of_the_copy_is_an_error(rest, serve, studio):
    async def silent(exchange):
        await exchange.json({"status": "loaded"})

    server = await serve(studio.scripts | {"POST /api/v1/models/load": silent})
    with pytest.raises(ProtocolError):
        await anext_until_end(rest.plugin.load_model(LoadRequest(model="granite"), rest.context(server.url)))


async def anext_until_end(iterator):
    return [item async for item in iterator]


async def test_a_load_that_is_given_up_is_unloaded_when_it_is_there(rest, studio):
    studio.load_may_end.clear()
    task = asyncio.create_task(load(rest, studio, model="granite"))
    await asyncio.wait_for(studio.load_began.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert not studio.unloaded.is_set()
    studio.load_may_end.set()
    await asyncio.wait_for(studio.unloaded.wait(), 5)
    assert studio.loaded["granite"] == {}


async def test_a_load_that_was_not_begun_leaves_nothing_behind(rest, studio):
    iterator = rest.plugin.load_model(LoadRequest(model="granite"), studio.context)
    assert await anext(iterator) == Progress("loading model")
    await iterator.aclose()
    assert paths(studio) == ["models"]


async def test_a_load_that_is_given_up_and_fails_is_only_logged(rest, serve, studio, caplog):
    asked, fail = asyncio.Event(), asyncio.Event()

    async def failing(exchange):
        asked.set()
        await fail.wait()
        await exchange.json({"error": {"type": "internal_error", "message": "no memory"}}, 500)

    server = await serve(studio.scripts | {"POST /api/v1/models/load": failing})
    studio.context = rest.context(server.url)
    task = asyncio.create_task(load(rest, studio, model="granite"))
    await asyncio.wait_for(asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fail.set()
    await rest.resources.close()  # waits for loads that nobody wants any more
    assert "no memory" in caplog.text


async def test_closing_the_bridge_gives_up_a_load_that_never_ends(rest, studio, monkeypatch):
    from lmbridge_lmstudio_rest import loading

    monkeypatch.setattr(loading, "_ABANDONED_SECONDS", 0.05)
    studio.load_may_end.clear()
    task = asyncio.create_task(load(rest, studio, model="granite"))
    await asyncio.wait_for(studio.load_began.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(rest.resources.close(), 5)


# Unloading


async def test_a_key_unloads_all_its_copies(rest, studio):
    studio.loaded["gemma"]["gemma:2"] = {}
    gone = await rest.plugin.unload_model(UnloadRequest(model="gemma"), studio.context)
    assert gone == ("gemma", "gemma:2")
    assert studio.loaded["gemma"] == {}


async def test_an_id_unloads_one_copy(rest, studio):
    studio.loaded["gemma"]["gemma:2"] = {}
    assert await rest.plugin.unload_model(UnloadRequest(model="gemma:2"), studio.context) == ("gemma:2",)
    assert list(studio.loaded["gemma"]) == ["gemma"]


async def test_a_model_that_is_not_loaded_needs_no_unload(rest, studio):
    assert await rest.plugin.unload_model(UnloadRequest(model="granite"), studio.context) == ()


async def test_an_unknown_model_cannot_be_unloaded(rest, studio):
    with pytest.raises(ModelNotFound):
        await rest.plugin.unload_model(UnloadRequest(model="nope"), studio.context)


async def test_a_copy_that_went_by_itself_counts_as_gone(rest, studio):
    async def gone_meanwhile(exchange):
        studio.loaded["gemma"].clear()
        await exchange.json({"error": {"type": "model_not_found", "message": "not found"}}, 404)

    studio.server.scripts["POST /api/v1/models/unload"] = gone_meanwhile
    assert await rest.plugin.unload_model(UnloadRequest(model="gemma"), studio.context) == ("gemma",)


async def test_an_unload_is_confirmed_by_the_answer(rest, studio):
    studio.confirms = False
    with pytest.raises(ProtocolError, match="confirm"):
        await rest.plugin.unload_model(UnloadRequest(model="gemma"), studio.context)


async def test_an_unload_is_confirmed_by_the_list(rest, studio, monkeypatch):
    from lmbridge_lmstudio_rest import loading

    monkeypatch.setattr(loading, "_GONE_SECONDS", 0.05)
    monkeypatch.setattr(loading, "_GONE_POLL_SECONDS", 0.001)
    studio.keeps_listing = True
    with pytest.raises(ServerError, match="still lists"):
        await rest.plugin.unload_model(UnloadRequest(model="gemma"), studio.context)
