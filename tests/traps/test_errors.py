"""What goes wrong inside the SDK comes out as an error of ours, and what servers say is understood."""

import json

import httpx
import lmstudio
import msgspec
import pytest
from aiohttp import web

import lmbridge

GRANITE = "ibm/granite-4-micro"


def error_type(status: int, body: object):
    async def answer(_):
        return web.json_response(body, status=status)

    return answer


NATIVE = {
    "a key": (
        400,
        {
            "type": "invalid_request",
            "message": "Unrecognized key(s) in object: 'stop'",
            "code": "unrecognized_keys",
        },
        lmbridge.UnsupportedFeature,
    ),
    "a level": (
        400,
        {
            "message": "Reasoning setting 'on' is not supported by model 'm'. Supported settings: 'low'.",
            "type": "invalid_request",
            "param": "reasoning",
            "code": "invalid_value",
        },
        lmbridge.UnsupportedFeature,
    ),
    "no reasoning": (
        400,
        {
            "message": "Model 'm' does not expose reasoning configuration.",
            "type": "invalid_request",
            "param": "reasoning",
            "code": "invalid_value",
        },
        lmbridge.UnsupportedFeature,
    ),
    "a token": (
        401,
        {"type": "invalid_request", "code": "invalid_api_key", "message": "A token is required."},
        lmbridge.AuthenticationFailed,
    ),
    "a permission": (
        403,
        {"message": "Permission denied to use plugin mcp/x", "code": "permission_denied"},
        lmbridge.AuthenticationFailed,
    ),
    "a model": (404, {"type": "model_not_found", "message": "Model x not found"}, lmbridge.ModelNotFound),
    "a template": (
        500,
        {"type": "internal_error", "message": "Only user, assistant and tool roles are supported"},
        lmbridge.ServerError,
    ),
    "nothing": (500, {}, lmbridge.ServerError),
}


@pytest.mark.parametrize("case", NATIVE)
async def test_refusals_of_the_native_api(make_stand, case):
    """Each refusal of ``/api/v1`` has its own mixture of type, code and param.

    Source: LM Studio docs, rest/streaming-events; localmind#75; lmstudio-bug-tracker#2219.
    """
    status, error, expected = NATIVE[case]
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    stand.meddler.routes["/api/v1/chat"] = error_type(status, {"error": error})
    with pytest.raises(expected) as caught:
        await stand.ask("rest")
    assert caught.value.status == status
    assert caught.value.hint


COMPAT = {
    "json_object": (
        400,
        "'response_format.type' must be 'json_schema' or 'text'",
        lmbridge.UnsupportedFeature,
    ),
    "tool_choice": (
        400,
        "Invalid tool_choice type: 'object'. Supported string values: none, auto, required",
        lmbridge.UnsupportedFeature,
    ),
    "a picture": (400, "'url' field must be a base64 encoded image.", lmbridge.ImageRejected),
    "nothing loaded": (
        400,
        {"message": "No models loaded. Please load a model in the developer page or use 'lms load'."},
        lmbridge.ModelNotFound,
    ),
    "memory": (
        404,
        {
            "message": 'Failed to load model "m". Error: Model loading aborted due to insufficient system '
            "resources. Overloading the system will likely cause it to freeze."
        },
        lmbridge.ModelLoadFailed,
    ),
    "unloaded": (
        400,
        {"message": "Model was unloaded while the request was still in queue.."},
        lmbridge.ServerError,
    ),
}


@pytest.mark.parametrize("case", COMPAT)
async def test_refusals_of_the_compatible_routes(make_stand, case):
    """An error is a string here and an object there, and its status may be that of another error.

    Source: lmstudio-bug-tracker#189, #670, #1752, #1730; agent-zero#215.
    """
    status, error, expected = COMPAT[case]
    stand = await make_stand(loaded=(GRANITE,), meddle=True)
    stand.meddler.routes["/v1/chat/completions"] = error_type(status, {"error": error})
    with pytest.raises(expected) as caught:
        await stand.ask("compat")
    assert caught.value.hint


RAW = {
    "httpx": httpx.ReadTimeout("read timed out"),
    "a connection": httpx.RemoteProtocolError("peer closed"),
    "json": json.JSONDecodeError("Expecting value", "x", 0),
    "a refused token": ValueError("dictionary update sequence element #0 has length 1; 2 is required"),
    "msgspec": msgspec.ValidationError("Invalid enum value 'x'"),
    "a key": KeyError("llm"),
    "generator exit": GeneratorExit(),
    "no message": lmstudio.LMStudioTimeoutError(),
    "another loop": lmstudio.LMStudioRuntimeError("running in a different event loop"),
    "a dead client": lmstudio.LMStudioWebsocketError("Session must be connected"),
    "a closed channel": lmstudio.LMStudioChannelClosedError("closed"),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("place", ["load", "predict", "count"])
async def test_the_sdk_lets_out_errors_of_what_it_is_built_from(make_stand, monkeypatch, name, place):
    """Out of the SDK come httpx, json and msgspec errors, KeyError, ValueError, and even ``GeneratorExit``.

    Source: lmstudio-python (httpx, json, msgspec; PredictionStreamBase.result).
    """
    stand = await make_stand(loaded=(GRANITE,))

    async def fail_later(*_, **__):
        raise RAW[name]

    where = {
        "load": ("lmstudio.async_api.AsyncChannel.wait_for_result", fail_later),
        "predict": ("lmstudio.async_api.AsyncPredictionStream.start", fail_later),
        "count": ("lmstudio.async_api.AsyncLLM.count_tokens", fail_later),
    }
    monkeypatch.setattr(*where[place])
    count = lmbridge.CountRequest(text="x", model=GRANITE)
    call = stand.bridge.count_tokens("sdk", count) if place == "count" else stand.ask("sdk")
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await call
    assert caught.value.connection == "sdk"
    assert caught.value.message
    if name == "a refused token":
        assert isinstance(caught.value, lmbridge.AuthenticationFailed)


async def test_a_chat_with_an_embedding_model(make_stand, via):
    """The SDK looks for a model in the namespace of the other kind and says that it found a strange one.

    Source: lmstudio-js (generic.domainMismatch).
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await stand.ask(via, model="text-embedding-nomic-embed-text-v1.5")
    assert not isinstance(caught.value, lmbridge.PluginError)
    assert caught.value.hint
    assert via != "sdk" or isinstance(caught.value, lmbridge.UnsupportedFeature)
