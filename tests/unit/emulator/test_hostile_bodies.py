"""Whatever a body holds, every route answers it: with a result or an error of its own, never by failing."""

import copy

import pytest

TEXT, VISION, EMBEDDING = "ibm/granite-4-micro", "qwen3-vl-4b", "text-embedding-nomic-embed-text-v1.5"
JUNK = (None, -7, 1e308, "", "\ud800", [None], {"type": "x"}, True)
FUNCTION = {"name": "add", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
BODIES = {
    "/v1/chat/completions": {
        "model": VISION,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "user", "content": [{"type": "text", "text": "t"}]},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "stream": False,
        "stream_options": {"include_usage": True},
        "stop": ["x"],
        "seed": 1,
        "temperature": 0.5,
        "max_tokens": 50,
        "ttl": 5,
        "draft_model": TEXT,
        "reasoning_effort": "low",
    },
    "/v1/completions": {
        "model": TEXT,
        "prompt": "p",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    },
    "/v1/embeddings": {"model": EMBEDDING, "input": ["a"], "encoding_format": "float", "ttl": 5},
    "/v1/responses": {
        "model": VISION,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
            {"type": "function_call", "call_id": "1", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "t"}]},
        ],
        "tools": [
            {"type": "function", **FUNCTION},
            {"type": "mcp", "server_label": "files", "allowed_tools": []},
        ],
        "tool_choice": "auto",
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "reasoning": {"effort": "low"},
        "instructions": "i",
        "metadata": {},
        "max_output_tokens": 50,
        "store": True,
    },
    "/v1/messages": {
        "model": VISION,
        "max_tokens": 50,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "add", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "r"}]}
                ],
            },
        ],
        "tools": [{"name": "add", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "add"},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stop_sequences": ["x"],
    },
    "/api/v1/chat": {
        "model": VISION,
        "input": [{"type": "text", "content": "t"}],
        "system_prompt": "s",
        "integrations": [
            {"type": "plugin", "id": "mcp/files", "allowed_tools": ["read_file"]},
            {
                "type": "ephemeral_mcp",
                "server_label": "hub",
                "server_url": "https://huggingface.co/mcp",
                "headers": {},
            },
        ],
        "stream": False,
        "temperature": 0.5,
        "top_k": 3,
        "max_output_tokens": 50,
        "context_length": 4096,
        "store": False,
        "previous_response_id": "resp_0",
    },
    "/api/v1/models/load": {"model": TEXT, "context_length": 4096, "flash_attention": True},
    "/api/v1/models/unload": {"instance_id": TEXT},
    "/api/v1/models/download": {"model": "https://huggingface.co/acme/x", "quantization": "Q8_0"},
}


def paths(value, prefix=()):
    """Return the paths to all parts of a JSON value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [found for key, child in children for found in [(*prefix, key), *paths(child, (*prefix, key))]]


def changed(body, path, junk):
    body = copy.deepcopy(body)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    return body


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("route", BODIES)
async def test_no_part_of_a_body_makes_a_route_fail(make_lmstudio_emulator, connect, route, junk):
    emulator = await make_lmstudio_emulator(
        loaded=(TEXT, VISION, EMBEDDING), responses_structured_output=True
    )
    http = await connect(emulator)
    for path in paths(BODIES[route]):
        body = changed(BODIES[route], path, junk)
        async with http.session.post(route, json=body) as answer:
            await answer.read()
            if not answer.content_type.startswith(("application/json", "text/event-stream")):
                pytest.fail(f"{path}={junk!r}: {answer.status} {await answer.text()}")
        assert emulator.last.reason != "internal error", (path, junk)
        assert "Internal error" not in emulator.last.reason, (path, junk)
        emulator.forget()


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"a":1,}', b"[" * 5000])
async def test_what_is_no_object_is_refused(http, route, body):
    async with http.session.post(route, data=body) as answer:
        assert answer.status == 400
        assert "error" in await answer.json()
