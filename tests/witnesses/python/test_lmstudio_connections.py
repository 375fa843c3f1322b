"""LM Studio's asynchronous Python client: connections, tokens, lost sockets, newer servers."""

import asyncio
import gc
import json
import logging

import httpx
import lmstudio as lms
import msgspec
import pytest

TEXT = "ibm/granite-4-micro"


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


async def test_api_tokens(make_lmstudio_emulator, takes_tokens):
    identifier, passkey = "AbCdEfGh", "0123456789abcdefghij"
    emulator = await make_lmstudio_emulator(tokens=(f"sk-lm-{identifier}:{passkey}",))
    with pytest.raises(lms.LMStudioServerError if takes_tokens else ValueError):
        await lms.AsyncClient(emulator.address).__aenter__()
    if takes_tokens:
        client = lms.AsyncClient(emulator.address, api_token=f"sk-lm-{identifier}:{passkey}")
    else:
        client = lms.AsyncClient(emulator.address)
        client._auth_details = client._format_auth_message(identifier, passkey)
    async with client:
        assert (await (await client.llm.model(TEXT)).respond("[[say=ok]]")).content == "ok"
    assert all(record.authenticated for record in emulator.find("predict"))


async def test_packets_and_values_of_a_newer_server(emulator, client):

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


def test_two_loops_one_after_the_other(lmstudio_emulator_thread):
    address = lmstudio_emulator_thread.address

    async def conversation() -> str:
        async with lms.AsyncClient(address) as client:
            return (await (await client.llm.model(TEXT)).respond("[[say=hi]]")).content

    assert [asyncio.run(conversation()) for _ in range(2)] == ["hi", "hi"]


@pytest.mark.parametrize("greeting", ["text", "html"])
async def test_another_program_on_the_port(emulator, greeting):
    emulator.configure(greeting=greeting)
    with pytest.raises(json.JSONDecodeError):
        await lms.AsyncClient(emulator.address).__aenter__()


async def test_a_server_that_is_silent(emulator):
    emulator.configure(greeting="hang")
    with pytest.raises(httpx.ReadTimeout):
        await lms.AsyncClient(emulator.address).__aenter__()


async def test_a_client_after_a_lost_connection(emulator, client):
    await client.llm.model(TEXT)
    emulator.drop_sockets()
    await emulator.wait_for(lambda e: all(r.state != "open" for r in e.requests if r.route.startswith("WS")))
    with pytest.raises(lms.LMStudioWebsocketError):
        await client.llm.model(TEXT)  # it does not connect again
    async with lms.AsyncClient(emulator.address) as another:
        assert (await (await another.llm.model(TEXT)).respond("[[say=back]]")).content == "back"


async def test_late_pieces_of_a_stream_that_was_left_are_logged(emulator, client, caplog):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=3)
    async for _ in await model.respond_stream("[[words=20]]"):
        break
    await gate.reached()
    gc.collect()  # the client leaves the forgotten stream to the collector,
    await model.get_info()  # and the loop closes it before the answer to this comes
    gate.release()
    await emulator.wait_for(lambda e: e.find("predict")[0].finished)
    await model.get_info()  # comes after them on the same socket
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert any("already closed channel" in record.getMessage() for record in warnings)
