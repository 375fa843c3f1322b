"""`/_emulator`: turning switches, looking inside, and who may not."""

import asyncio
import io
import json
from types import SimpleNamespace

import aiohttp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmbridge.emulator import FakeClock, Settings, SystemClock
from lmbridge.emulator.admin.guard import AdminError, check_caller
from lmbridge.emulator.admin.routes import ROUTES
from lmbridge.emulator.admin.views import masked
from lmbridge.emulator.switches import names, switches

TEXT = "ibm/granite-4-micro"
TOKEN = "sk-lm-ABCDEFGH:abcdefghij0123456789"
OTHER = "sk-lm-HGFEDCBA:abcdefghij0123456789"


async def patch(http, body, path="/_emulator/switches", **more):
    async with http.session.patch(path, json=body, **more) as response:
        return response.status, await response.json()


# -- switches ----------------------------------------------------------------------------------------------


async def test_a_switch_that_is_turned_shows_on_the_wire(emulator, http):
    status, answer = await patch(http, {"zero_usage": True, "greeting": "text", "pace.token": 0.0})
    assert (status, answer["changed"]["zero_usage"]) == (200, True)
    assert (await http.chat("Hi"))["usage"]["total_tokens"] == 0
    assert emulator.settings.greeting == "text"
    status, _ = await http.post("/_emulator/switches", {"zero_usage": False})
    assert status == 200
    assert (await http.chat("Hi"))["usage"]["total_tokens"] > 0


async def test_the_table_has_every_switch_with_its_value_and_evidence(http):
    await patch(http, {"parallel": 2, "pace": {"tool": 0.5}})
    _, answer = await http.get("/_emulator/switches")
    rows = {row["name"]: row for row in answer["switches"]}
    assert list(rows) == [switch.name for switch in switches()]
    assert (rows["parallel"]["value"], rows["parallel"]["default"]) == (2, 4)
    assert rows["pace"]["value"] == {
        "token": 0,
        "load_step": 0,
        "prompt_step": 0,
        "download_step": 0,
        "tool": 0.5,
    }
    assert rows["jit"]["takes"] == "true or false"
    assert rows["greeting"]["takes"] == "one of ok, hang, text, html"
    assert rows["jit_ttl_s"]["takes"] == "a number or none"
    assert all(row["evidence"] and row["meaning"] for row in rows.values())


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"jitt": True}, ("unknown_switch", "jitt"), "did you mean jit?"),
        ({"pace.tokn": 1}, ("unknown_switch", "pace.tokn"), "did you mean pace.token?"),
        ({"pace": 1}, ("invalid_value", "pace"), "object of numbers"),
        ({"jit": "yes"}, ("invalid_value", "jit"), "true or false"),
        ({"jit": 1}, ("invalid_value", "jit"), "true or false"),
        ({"greeting": "bye"}, ("invalid_value", "greeting"), "one of ok, hang"),
        ({"parallel": 0}, ("invalid_value", "parallel"), "at least 1"),
        ({"pace": {"token": -1}}, ("invalid_value", "pace.token"), "at least 0"),
        ({"loaded": ["nobody/nothing"]}, ("invalid_value", "loaded"), "not in the emulator's catalogue"),
        ({"tokens": ["my-own-secret"]}, ("invalid_value", "tokens"), "sk-lm-"),
        ({"tokens": 5}, ("invalid_value", "tokens"), "sk-lm-"),
        ({"admin": False}, ("invalid_value", "admin"), "cannot be changed"),
    ],
)
async def test_a_wrong_change_is_refused_as_a_whole(emulator, http, changes, error, told):
    before = emulator.settings
    status, answer = await patch(http, {"zero_usage": True, **changes})
    assert (status, answer["error"]["type"], answer["error"]["name"]) == (400, *error)
    assert told in json.dumps(answer["error"])
    assert "my-own-secret" not in json.dumps(answer)
    assert emulator.settings == before


async def test_tokens_are_taken_and_never_shown(emulator, http):
    status, answer = await patch(http, {"tokens": [TOKEN, {"value": OTHER, "mcp": False}]})
    assert status == 200
    assert answer["changed"]["tokens"] == [{"value": "***", "mcp": True}, {"value": "***", "mcp": False}]
    assert (await http.get("/v1/models"))[0] == 401
    assert (await http.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200
    for path in ("/_emulator/switches", "/_emulator/requests?full=1"):
        async with http.session.get(path) as response:
            text = await response.text()
        assert response.status == 200
        assert not any(part in text for part in (TOKEN, OTHER, "ABCDEFGH", "abcdefghij0123456789"))


def test_parts_of_the_pace_have_names_of_their_own():
    assert "pace.token" in names()
    assert "pace" not in names()


# -- requests ----------------------------------------------------------------------------------------------


async def test_the_journal_is_shown_without_what_is_secret(http):
    integration = {
        "type": "ephemeral_mcp",
        "server_label": "hub",
        "server_url": "https://someone:hunter2@mcp.example.com/",
        "headers": {"X-Anything": "hunter2"},
    }
    body = {"model": TEXT, "input": f"My key is {TOKEN}. " + "x" * 600, "integrations": [integration]}
    await http.post("/api/v1/chat", body, headers={"Authorization": "Bearer hunter2", "Cookie": "hunter2"})
    _, answer = await http.get("/_emulator/requests?route=/api/v1/chat")
    (record,) = answer["requests"]
    assert (record["route"], record["status"], record["state"]) == ("POST /api/v1/chat", 200, "finished")
    assert record["body"]["model"] == TEXT
    assert record["body"]["input"].endswith("characters)")
    assert record["phases"][-1] == "finished"
    assert record["tokens"] > 0
    _, whole = await http.get("/_emulator/requests?full=true")
    assert whole["requests"][0]["body"]["input"].endswith("x" * 600)
    for text in (json.dumps(answer), json.dumps(whole)):
        assert "hunter2" not in text
        assert TOKEN not in text
        assert "someone" not in text


def json_with(secret):
    around = st.text(alphabet=st.characters(exclude_categories=["L", "N", "Cs"]), max_size=5)
    leaf = st.one_of(st.none(), st.integers(), st.builds(lambda a, b: f"{a} {secret} {b}", around, around))
    names = st.one_of(st.just(secret), st.sampled_from(["token", "Headers", "x", "authorization"]))
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=10,
    )


@settings(deadline=None)
@example({"Headers": {TOKEN: None}}, None)
@given(json_with(TOKEN), st.sampled_from([None, 0, 3, 500]))
def test_a_token_is_never_shown_wherever_it_stands(value, limit):
    text = json.dumps(masked(value, limit))
    assert "abcdefghij0123456789" not in text
    assert "ABCDEFGH" not in text


@pytest.mark.parametrize("before", [0, 480, 490, 499])
def test_a_cut_leaves_no_half_of_a_token(before):
    text = masked("x" * before + f" {TOKEN} " + "y" * 1000, 500)
    assert "ABCDEFGH" not in text


def test_what_nests_deeper_than_anybody_reads_is_left_out():
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    assert "…" in json.dumps(masked(deep), ensure_ascii=False)


async def test_a_tester_can_wait_for_a_request(emulator, http):
    await http.chat("Hi")
    waiting = asyncio.create_task(http.get("/_emulator/requests?after=1&state=finished&count=2&wait=30"))
    await http.chat("One")
    await http.get("/v1/models")
    status, answer = await waiting
    assert status == 200
    assert [record["number"] for record in answer["requests"]] == [2, 3]
    status, answer = await http.get("/_emulator/requests?after=3&wait=0.01")
    assert (status, answer["error"]["type"]) == (504, "timeout")
    assert "#3 GET /v1/models finished" in answer["error"]["message"]
    for query in ("after=x", "wait=-1", "count=nan"):
        assert (await http.get(f"/_emulator/requests?{query}"))[1]["error"]["type"] == "invalid_value"
    assert len(emulator.requests) == 3, "looking is no request to LM Studio"


# -- instances, clock, gates, sockets, reset -----------------------------------------------------------------


async def test_instances_and_loads_are_shown(emulator, http):
    gate = emulator.gates.hold("loading", after=2)
    task = asyncio.create_task(http.chat("Hi"))
    await gate.reached()
    _, answer = await http.get("/_emulator/instances")
    assert answer == {"instances": [], "loading": [{"id": TEXT, "model": TEXT, "progress": 0.25}]}
    gate.release()
    held = emulator.gates.hold("answering")
    await held.reached()
    _, answer = await http.get("/_emulator/instances")
    (instance,) = answer["instances"]
    assert (instance["id"], instance["running"], instance["queued"]) == (TEXT, 1, 0)
    assert (instance["loaded_on_request"], instance["ttl_seconds"]) == (True, 3600.0)
    assert (instance["status"], instance["idle_seconds"]) == ("generating", None)
    held.release()
    await task


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()])
async def test_the_clock_can_be_put_forward(make_lmstudio_emulator, connect, clock):
    emulator = await make_lmstudio_emulator(clock=clock)
    http = await connect(emulator)
    await http.chat("Hi")
    assert len(emulator.instances) == 1
    gone = asyncio.create_task(emulator.wait_for(lambda e: not e.instances))
    status, answer = await http.post("/_emulator/clock", {"advance": 3600})
    assert status == 200
    assert answer["now"] >= 3600
    await gone
    for wrong in ({"advance": -1}, {"advance": True}, {"advance": "1"}, {}):
        assert (await http.post("/_emulator/clock", wrong))[1]["error"]["name"] == "advance"
    assert (await http.post("/_emulator/clock", {"back": 1}))[1]["error"]["type"] == "unknown_key"


async def test_who_sleeps_by_the_real_clock_wakes_when_it_is_put_forward():
    clock = SystemClock()
    sleeper = asyncio.create_task(clock.sleep(3600))
    await asyncio.sleep(0)
    clock.advance(1800)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1800)
    await asyncio.wait_for(sleeper, 10)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


async def test_gates_are_held_awaited_and_released(emulator, http):
    status, gate = await http.post("/_emulator/gates", {"phase": "answering", "after": 2, "model": TEXT})
    assert (status, gate["id"], gate["arrived"]) == (201, 1, 0)
    task = asyncio.create_task(http.chat("Hi"))
    status, gate = await http.get("/_emulator/gates/1?wait=30")
    assert (status, gate["waiting"]) == (200, 1)
    assert emulator.last.tokens == 2
    assert (await http.get("/_emulator/gates"))[1]["gates"] == [gate]
    status, answer = await http.get("/_emulator/gates/1?wait=0.01&arrived=2")
    assert (status, answer["error"]["type"]) == (504, "timeout")
    assert (await http.post("/_emulator/gates/1/release", {}))[0] == 200
    await task
    assert (await http.get("/_emulator/gates/1"))[0] == 404
    await http.post("/_emulator/gates", {"phase": "prompt"})
    await http.post("/_emulator/gates", {"phase": "loading"})
    _, answer = await http.post("/_emulator/gates/release", {"phase": "prompt"})
    assert [gate["phase"] for gate in answer["released"]] == ["prompt"]
    _, answer = await http.post("/_emulator/gates/release", {})
    assert [gate["phase"] for gate in answer["released"]] == ["loading"]
    for wrong in ({"phase": "sleeping"}, {"phase": "prompt", "after": -1}, {"phase": "prompt", "model": "x"}):
        assert (await http.post("/_emulator/gates", wrong))[1]["error"]["type"] == "invalid_value"
    assert (await http.post("/_emulator/gates/release", {"phase": "x"}))[1]["error"]["name"] == "phase"


async def test_sockets_can_be_dropped(http):
    socket = await http.socket("/llm")
    await socket.ask({"authVersion": 1, "clientIdentifier": "guest:a", "clientPasskey": "b"})
    assert await http.post("/_emulator/sockets/drop", {}) == (200, {"dropped": 1})
    message = await socket.socket.receive(timeout=10)
    assert message.type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)


async def test_reset_sets_everything_back(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(loaded=("qwen3-vl-4b",))
    http = await connect(emulator)
    await patch(http, {"jit": False, "loaded": [TEXT, TEXT]})
    assert (await http.post("/_emulator/reset", {"parts": ["instances"]}))[0] == 200
    assert [instance.id for instance in emulator.instances] == [TEXT, f"{TEXT}:2"]
    _, chat = await http.post("/api/v1/chat", {"model": TEXT, "input": "Hi"})
    await http.post("/api/v1/models/download", {"model": "mistralai/ministral-3-3b"})
    emulator.gates.hold("answering")
    running = asyncio.create_task(http.post("/api/v1/chat", {"model": TEXT, "input": "Hi"}))
    await emulator.wait_for(lambda e: e.last.phase == "answering")
    status, answer = await http.post("/_emulator/reset", {})
    assert status == 200
    assert "switches" in answer["reset"]
    assert (await running)[0] in (200, 500)
    assert emulator.settings.jit
    assert [instance.id for instance in emulator.instances] == ["qwen3-vl-4b"]
    assert not (await http.get("/_emulator/gates"))[1]["gates"]
    more = {"model": TEXT, "input": "Hi", "previous_response_id": chat["response_id"]}
    assert (await http.post("/api/v1/chat", more))[0] == 404
    downloaded = [entry["key"] for entry in (await http.get("/api/v1/models"))[1]["models"]]
    assert "mistralai/ministral-3-3b" not in downloaded
    assert emulator.requests[0].route == "POST /api/v1/chat"
    assert (await http.post("/_emulator/reset", {"parts": ["x"]}))[1]["error"]["name"] == "parts"


async def test_a_load_ends_with_a_reset(emulator, http):
    gate = emulator.gates.hold("loading", after=1)
    task = asyncio.create_task(http.post("/api/v1/models/load", {"model": TEXT}))
    await gate.reached()
    await http.post("/_emulator/reset", {"parts": ["instances"]})
    status, answer = await task
    assert status >= 400
    assert "canceled" in answer["error"]["message"]
    assert emulator.loading == []


# -- who may -------------------------------------------------------------------------------------------------


async def test_the_index_lists_every_route(http):
    _, answer = await http.get("/_emulator")
    listed = {(route["method"], route["path"].removeprefix("/_emulator")) for route in answer["routes"]}
    assert listed == set(ROUTES)
    assert all(route["does"].endswith(".") or route["does"].endswith(":") for route in answer["routes"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "localhost.attacker.example:1234"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": "192.168.1.5:1234"},
        {"Host": "[::1"},
        {"Origin": "http://attacker.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/_emulator/switches", "/_emulator/requests", "/_emulator"])
async def test_pages_of_other_sites_are_refused(emulator, http, headers, path):
    async with http.session.get(path, headers=headers) as response:
        assert response.status == 403
        assert (await response.json())["error"]["type"] == "forbidden"
        assert "Access-Control-Allow-Origin" not in response.headers
    status, _ = await patch(http, {"zero_usage": True}, headers=headers)
    assert status == 403
    assert not emulator.settings.zero_usage


async def test_pages_of_the_emulator_itself_and_tools_are_let_in(emulator, http):
    own = {"Origin": emulator.url, "Sec-Fetch-Site": "same-origin"}
    assert (await http.get("/_emulator", headers=own))[0] == 200
    for host in ("localhost", "localhost:1234", "127.0.0.2:80", "[::1]:1234"):
        assert (await http.get("/_emulator", headers={"Host": host}))[0] == 200
    async with http.session.get("/_emulator") as response:
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("remote", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("fe80::1", False),
        ("", False),
        (None, False),
    ],
)
def test_only_this_machine_is_let_in(remote, allowed):
    request = SimpleNamespace(remote=remote, headers={"Host": "localhost"})
    if allowed:
        check_caller(request)
        return
    with pytest.raises(AdminError, match="own machine"):
        check_caller(request)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_a_form_can_send_changes_nothing(emulator, http, kind):
    data, headers = b'{"zero_usage": true}', {"Content-Type": kind}
    async with http.session.post("/_emulator/switches", data=data, headers=headers) as response:
        assert response.status == 415
        assert (await response.json())["error"]["type"] == "unsupported_media_type"
    assert not emulator.settings.zero_usage


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b'"' + b"x" * 1_100_000 + b'"', 413, "too_large"),
    ],
)
async def test_a_hostile_body_is_refused(http, data, status, kind):
    headers = {"Content-Type": "application/json"}
    async with http.session.post("/_emulator/switches", data=io.BytesIO(data), headers=headers) as response:
        assert response.status == status
        assert (await response.json())["error"]["type"] == kind


@pytest.mark.parametrize("path", ["/_emulator/nothing", "/_emulator/switches/x", "/_emulator/"])
async def test_an_unknown_route_is_told(http, path):
    status, answer = await http.get(path)
    assert (status, answer["error"]["type"]) == (404, "unknown_route")
    async with http.session.delete("/_emulator/switches") as response:
        assert response.status == 404


async def test_switched_off_it_is_not_there(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(Settings.instant(admin=False))
    http = await connect(emulator)
    for path in ("/_emulator", "/_emulator/switches"):
        status, answer = await http.get(path)
        assert status == 200
        assert answer["error"].startswith("Unexpected endpoint or method")
    _, answer = await patch(http, {"zero_usage": True})
    assert "Unexpected endpoint" in answer["error"]
    assert not emulator.settings.zero_usage
    assert len(emulator.requests) == 3
