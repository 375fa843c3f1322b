"""MCP servers of `/api/v1/chat`: their events, and each way they fail."""

import pytest

from lmbridge.emulator import ApiToken

TEXT, THINKING = "ibm/granite-4-micro", "qwen/qwen3-4b"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
HUB = {"type": "ephemeral_mcp", "server_label": "hub", "server_url": "https://huggingface.co/mcp"}
FILES = {"type": "plugin", "id": "mcp/files"}


async def ask(http, prompt, *integrations, model=TEXT, **more):
    return await http.post(
        "/api/v1/chat", {"model": model, "input": prompt, "integrations": list(integrations), **more}
    )


async def stream(http, prompt, *integrations, model=TEXT):
    body = {"model": model, "input": prompt, "integrations": list(integrations), "stream": True}
    return await http.events("/api/v1/chat", body)


def tool_events(events):
    return [(name, data) for name, data in events if name.startswith("tool_call.")]


async def test_invalid_arguments_are_a_failure_with_all_that_is_known(http):
    # Documented in rest/streaming-events: arguments and provider_info only for invalid_arguments.
    events = await stream(http, "x [[tool=read_file {}]]", FILES)
    stages = tool_events(events)
    assert [name for name, _ in stages if name != "tool_call.name"] == [
        "tool_call.start",
        "tool_call.arguments",
        "tool_call.failure",
    ]
    failure = stages[-1][1]
    assert failure["metadata"] == {
        "type": "invalid_arguments",
        "tool_name": "read_file",
        "arguments": {},
        "provider_info": {"type": "plugin", "plugin_id": "mcp/files"},
    }
    invalid, message = events[-1][1]["result"]["output"]
    assert invalid == {
        "type": "invalid_tool_call",
        "reason": failure["reason"],
        "metadata": failure["metadata"],
    }
    assert failure["reason"] in message["content"]


@pytest.mark.parametrize("arguments", ['{"limit": "many"}', '{"query": 5}'])
async def test_arguments_of_a_wrong_type_are_invalid(http, arguments):
    _, answer = await ask(http, f"x [[tool=model_search {arguments}]]", HUB)
    assert answer["output"][0]["metadata"]["type"] == "invalid_arguments"
    assert "must be of type" in answer["output"][0]["reason"]


async def test_an_invalid_name_has_the_documented_reason_and_nothing_more(http):
    events = await stream(http, "x [[tool=open_browser {}]]", FILES)
    ((name, failure),) = tool_events(events)
    assert (name, failure["reason"]) == ("tool_call.failure", "Cannot find tool with name open_browser.")
    assert failure["metadata"] == {"type": "invalid_name", "tool_name": "open_browser"}
    assert [item["type"] for item in events[-1][1]["result"]["output"]] == ["invalid_tool_call", "message"]


async def test_only_allowed_tools_can_be_called(http):
    prompt = 'x [[tool=browser_navigate {"url": "u"}]]'
    for allowed, kind in ((["browser_navigate"], "tool_call"), (["browser_snapshot"], "invalid_tool_call")):
        plugin = {"type": "plugin", "id": "mcp/playwright", "allowed_tools": allowed}
        _, answer = await ask(http, prompt, plugin)
        assert answer["output"][0]["type"] == kind


async def test_several_servers_and_rounds(http):
    prompt = 'x [[tool=model_search {"limit": 1}]] [[tool2=read_file {"path": "a"}]]'
    _, answer = await ask(http, prompt, HUB, "mcp/files", model=THINKING)
    kinds = [item["type"] for item in answer["output"]]
    assert kinds == ["reasoning", "tool_call", "reasoning", "tool_call", "reasoning", "message"]
    assert [item["provider_info"] for item in answer["output"] if item["type"] == "tool_call"] == [
        {"type": "ephemeral_mcp", "server_label": "hub"},
        {"type": "plugin", "plugin_id": "mcp/files"},
    ]


@pytest.mark.parametrize(
    ("server", "kind", "message"),
    [
        ("mcp/gone", "plugin_connection_error", "Cannot find plugin handle for plugin mcp/gone"),
        ("mcp/offline", "plugin_connection_error", "Unable to get plugin tools for plugin mcp/offline"),
        (
            {**HUB, "server_url": "https://mcp.invalid/x"},
            "mcp_connection_error",
            "Failed to connect to MCP server 'hub'.",
        ),
    ],
)
async def test_a_server_that_cannot_be_used_is_an_error_and_then_the_end(http, server, kind, message):
    events = await stream(http, "Hi", server)
    assert [name for name, _ in events][-2:] == ["error", "chat.end"]
    error = events[-2][1]["error"]
    assert (error["type"], error["message"]) == (kind, message)
    assert events[-1][1]["result"]["output"] == []
    status, answer = await ask(http, "Hi", server)
    assert (status, answer["error"]["type"]) == (500, kind)


@pytest.mark.parametrize(("server", "name"), [("mcp/files", "mcp/files"), (FILES, "mcp/files"), (HUB, "hub")])
@pytest.mark.parametrize("settled_by", ["token", "settings"])
async def test_what_is_not_permitted(make_lmstudio_emulator, connect, server, name, settled_by):
    if settled_by == "token":
        emulator = await make_lmstudio_emulator(tokens=(ApiToken(TOKEN, mcp=False),))
    else:
        emulator = await make_lmstudio_emulator(mcp_servers_allowed=False, ephemeral_mcp_allowed=False)
    http = await connect(emulator, headers={"Authorization": f"Bearer {TOKEN}"})
    error = {
        "type": "invalid_request",
        "message": f"Permission denied to use plugin {name}",
        "code": "permission_denied",
        "param": "integrations",
    }
    assert await ask(http, "Hi", server) == (403, {"error": error})


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "192.168.1.5", "[::1]"])
async def test_a_local_address_is_refused_unless_switched_off(emulator, http, host):
    # bug-tracker#2161
    server = {**HUB, "server_url": f"http://{host}:3000/mcp"}
    status, answer = await ask(http, "Hi", server)
    assert (status, answer["error"]["type"]) == (400, "mcp_connection_error")
    emulator.configure(ephemeral_mcp_public_only=False)
    assert (await ask(http, "Hi", server))[0] == 200


@pytest.mark.parametrize(
    "server",
    [
        5,
        {"type": "plugin"},
        {"type": "plugin", "id": 5},
        {**FILES, "foo": 1},
        {**FILES, "allowed_tools": "read_file"},
        {**FILES, "allowed_tools": [5]},
        {**HUB, "headers": "x"},
        {**HUB, "headers": {"a": 5}},
        {"type": "ephemeral_mcp", "server_label": "x"},
        {**HUB, "server_url": "ftp://example.org"},
        {**HUB, "server_url": "nothing"},
        {**HUB, "foo": 1},
    ],
)
async def test_malformed_servers_are_refused(http, server):
    status, answer = await ask(http, "Hi", server)
    assert (status, answer["error"]["type"]) == (400, "invalid_request")


async def test_the_tools_count_as_prompt(http):
    # Changelog 0.3.17.
    _, bare = await ask(http, "Hi")
    _, armed = await ask(http, "Hi", "mcp/playwright")
    assert armed["stats"]["input_tokens"] > bare["stats"]["input_tokens"] + 10


async def test_what_the_tools_said_is_remembered(http):
    _, first = await ask(http, "use model_search", HUB)
    body = {"model": TEXT, "input": "And?", "previous_response_id": first["response_id"]}
    _, second = await http.post("/api/v1/chat", body)
    assert "2 assistant and 1 tool and 1 user" in second["output"][0]["content"]
