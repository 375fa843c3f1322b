"""The private ways: a test of each fails when the SDK changes, and each has its fallback."""

import asyncio
import inspect

import lmstudio
import pytest
from lmstudio import _ws_impl, json_api

from lmbridge import LoadRequest, Options, Progress, Tool, UnsupportedFeature
from lmbridge.errors import ConfigurationError
from lmbridge_lmstudio_sdk import guarded


async def stream_of(**options):
    """A prediction of the SDK that is never begun."""
    client = lmstudio.AsyncClient("127.0.0.1:1")
    session = lmstudio.async_api._AsyncSessionLlm(client)
    return await lmstudio.AsyncLLM("m", session).respond_stream("Hello", **options)


def test_the_client_takes_a_token_or_holds_its_login_in_a_dict():
    client = lmstudio.AsyncClient("127.0.0.1:1")
    if guarded.takes_token():
        assert lmstudio.__version__ >= "1.6"
    guarded.authenticate(client, "ABCDEFGH", "passkey")
    assert client._auth_details == {
        "authVersion": 1,
        "clientIdentifier": "ABCDEFGH",
        "clientPasskey": "passkey",
    }


def test_without_a_place_for_the_token_it_is_refused():
    with pytest.raises(ConfigurationError, match="no API token"):
        guarded.authenticate(object(), "ABCDEFGH", "passkey")


def test_the_greeting_of_the_client_can_be_replaced():
    source = inspect.getsource(lmstudio.AsyncClient.__aenter__)
    assert "self._ensure_api_host_is_valid()" in source
    assert inspect.iscoroutinefunction(lmstudio.AsyncClient._ensure_api_host_is_valid)


def test_the_sockets_are_opened_where_the_proxy_bypass_expects():
    assert "aconnect_ws(" in inspect.getsource(_ws_impl.AsyncWebsocketHandler._handle_ws)
    assert "client" in inspect.signature(_ws_impl.aconnect_ws).parameters


async def test_fields_are_added_to_the_request():
    stream = await stream_of(config={"temperature": 0.5})
    guarded.add_fields(stream, [("llm.prediction.seed", {"checked": True, "value": 1})])
    layers = stream._endpoint.creation_params["predictionConfigStack"]["layers"]
    assert layers[0]["config"]["fields"] == [
        {"key": "llm.prediction.temperature", "value": 0.5},
        {"key": "llm.prediction.seed", "value": {"checked": True, "value": 1}},
    ]


async def test_without_a_place_for_fields_they_are_refused():
    with pytest.raises(UnsupportedFeature, match="no longer") as caught:
        guarded.add_fields(object(), [("llm.prediction.seed", 1)])
    assert caught.value.features == ("llm.prediction.seed",)
    assert "lmstudio-rest" in caught.value.hint
    guarded.add_fields(object(), [])  # nothing asked, nothing refused


async def test_the_stream_shows_its_packets():
    stream = await stream_of()
    seen = []
    assert guarded.watch_packets(stream, lambda packet: seen.append(packet) or True)
    assert "endpoint.iter_message_events(" in inspect.getsource(type(stream)._iter_events)
    assert list(stream._endpoint.iter_message_events({"type": "x"})) == []
    assert seen == [{"type": "x"}]


def test_without_packets_there_is_no_watching():
    assert not guarded.watch_packets(object(), lambda _: True)


def test_loads_have_a_channel_with_a_cancel():
    assert list(inspect.signature(json_api.GetOrLoadEndpoint.__init__).parameters)[1:] == [
        "model_key",
        "ttl",
        "creation_param_type",
        "config_type",
        "config",
        "on_load_progress",
    ]
    assert list(inspect.signature(json_api.LoadModelEndpoint.__init__).parameters)[1:] == [
        "model_key",
        "instance_identifier",
        "ttl",
        "creation_param_type",
        "config_type",
        "config",
        "on_load_progress",
    ]
    assert inspect.iscoroutinefunction(lmstudio.async_api.AsyncChannel.cancel)
    assert hasattr(lmstudio.async_api._AsyncSession, "_create_channel")


# -- the fallbacks, at work --------------------------------------------------------------------------------


@pytest.fixture
def no_packets(monkeypatch):
    monkeypatch.setattr(guarded, "watch_packets", lambda *_: False)


async def test_text_and_progress_come_by_the_public_stream(scripted, make_context, ask, packets, no_packets):
    async def predict(channel):
        await channel.send(
            {"type": "promptProcessingProgress", "progress": 0.5},
            packets.fragment("hm", "reasoning"),
            packets.fragment("Hello"),
            packets.success(),
        )

    scripted.channels["predict"] = predict
    context = make_context(scripted.url)
    events = await ask.events(context)
    assert [event.fraction for event in events if isinstance(event, Progress)] == [0.0, 0.5, 1.0]
    result = await ask(context)
    assert (result.text, result.reasoning) == ("Hello", "hm")
    assert result.usage.completion_tokens == 2
    assert result.model == "test/model"


async def test_text_comes_by_the_public_stream_if_the_watching_is_never_called(
    scripted, make_context, ask, monkeypatch
):
    monkeypatch.setattr(guarded, "watch_packets", lambda *_: True)
    assert (await ask(make_context(scripted.url))).text == "Hello"


async def test_tools_are_refused_without_packets(scripted, make_context, ask, no_packets):
    with pytest.raises(UnsupportedFeature, match="tool calls") as caught:
        await ask(make_context(scripted.url), tools=(Tool("f"),))
    assert caught.value.hint
    assert not scripted.sent("predict")


async def test_tools_are_refused_at_the_end_if_no_packet_was_seen(scripted, make_context, ask, monkeypatch):
    monkeypatch.setattr(guarded, "watch_packets", lambda *_: True)
    with pytest.raises(UnsupportedFeature, match="tool calls"):
        await ask(make_context(scripted.url), tools=(Tool("f"),))


async def test_late_figures_that_the_sdk_cannot_read_cost_only_themselves(
    scripted, make_context, ask, packets, no_packets
):
    scripted.channels["predict"] = lambda channel: channel.send(
        packets.fragment("Hello"), packets.success(stopReason="tired")
    )
    result = await ask(make_context(scripted.url))
    assert (result.text, result.finish_reason) == ("Hello", "stop")
    assert any("could not be read" in note for note in result.notes)


async def test_a_fragment_that_the_sdk_cannot_read_is_an_error(
    scripted, make_context, ask, packets, no_packets
):
    scripted.channels["predict"] = lambda channel: channel.send(
        packets.fragment("Hel"), packets.fragment("lo", "musing"), packets.success()
    )
    with pytest.raises(Exception, match="cannot read") as caught:
        await ask(make_context(scripted.url))
    assert type(caught.value).__name__ == "ProtocolError"


@pytest.fixture
def no_fields(monkeypatch):
    real = guarded.add_fields
    monkeypatch.setattr(guarded, "add_fields", lambda _, fields: real(object(), fields))


async def test_a_seed_is_refused_or_left_out_without_a_place_for_fields(
    scripted, make_context, ask, no_fields
):
    with pytest.raises(UnsupportedFeature, match=r"no longer .* llm\.prediction\.seed"):
        await ask(make_context(scripted.url), options=Options(seed=1))
    result = await ask(make_context(scripted.url), options=Options(seed=1), on_unsupported="adapt")
    assert any("left out" in note for note in result.notes)
    assert (await ask(make_context(scripted.url), options=Options(temperature=1))).notes == ()


@pytest.fixture
def no_channel(monkeypatch):
    monkeypatch.setattr(guarded, "_load_endpoint", lambda *_, **__: None)


async def test_loads_go_by_the_public_way_without_a_channel(
    scripted, make_context, ask, provider, *, packets, no_channel
):
    async def load(channel):
        await channel.send(
            {"type": "startLoading", "identifier": "test/model", "info": packets.info},
            {"type": "loadProgress", "progress": 0.5},
            {"type": "loadSuccess", "info": packets.info},
            {"type": "success", "info": packets.info},
        )

    scripted.channels["getOrLoad"] = scripted.channels["loadModel"] = load
    context = make_context(scripted.url)
    events = await ask.events(context)
    loading = [
        event.fraction for event in events if isinstance(event, Progress) and event.phase == "loading model"
    ]
    assert loading == [0.0, 0.5, 1.0]
    loaded = [item async for item in provider.load_model(LoadRequest(model="test/model"), context)]
    assert loaded[-1].id == "test/model"


async def test_a_load_without_a_channel_is_undone_when_nobody_waits(
    scripted, make_context, ask, provider, *, packets, no_channel
):
    release = asyncio.Event()

    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await release.wait()
        await channel.send({"type": "loadSuccess", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    scripted.calls["unloadModel"] = lambda _: None
    stream = provider.stream(ask.request(), make_context(scripted.url))
    await anext(stream)
    await stream.aclose()
    release.set()
    await scripted.wait_for(lambda: scripted.sent("unloadModel"))
    assert not scripted.sent("predict")


def test_a_changed_load_endpoint_is_noticed(monkeypatch):
    client = lmstudio.AsyncClient("127.0.0.1:1")
    session = lmstudio.async_api._AsyncSessionLlm(client)
    wish = {"ttl": None, "config": None, "new": False, "on_progress": lambda _: None}
    assert guarded._load_endpoint(session, "m", **wish) is not None
    assert guarded._load_endpoint(object(), "m", **wish) is None
    monkeypatch.delattr(json_api, "GetOrLoadEndpoint")
    assert guarded._load_endpoint(session, "m", **wish) is None


def test_messages_are_limited_once_and_with_either_way_to_connect():
    from lmstudio import _ws_impl

    assert guarded.limit_messages()
    limited = _ws_impl.aconnect_ws
    assert guarded.limit_messages()
    assert _ws_impl.aconnect_ws is limited
