"""Everything that the emulator does says how it is known."""

import re
import typing

import pytest

from lmbridge.emulator import app, behaviours, errors
from lmbridge.emulator.evidence import facts_of, known
from lmbridge.emulator.native import stream_facts
from lmbridge.emulator.sdk import packet_facts, rpc, socket
from lmbridge.emulator.settings import Evidence
from lmbridge.emulator.switches import switches

TEXT, THINKING, MISSING = "ibm/granite-4-micro", "qwen/qwen3-4b", "mistralai/ministral-3-3b"
HELLO = {"authVersion": 1, "clientIdentifier": "guest:me", "clientPasskey": "x"}


def test_whatever_does_something_says_how_that_is_known():
    assert behaviours.unmarked() == []


def test_a_new_error_or_route_is_not_forgotten(monkeypatch):
    def nobody_knows():
        """Fail."""

    nobody_knows.__module__ = errors.__name__
    monkeypatch.setattr(errors, "nobody_knows", nobody_knows, raising=False)
    monkeypatch.setitem(app.COMPATIBLE, ("GET", "/v1/new"), nobody_knows)
    monkeypatch.setitem(rpc.CALLS, ("llm", "new"), nobody_knows)
    monkeypatch.setitem(socket.CHANNELS, ("llm", "newer"), nobody_knows)
    assert behaviours.unmarked() == [
        "HTTP routes: `GET /v1/new`",
        "Remote calls of the SDK: `new` (llm)",
        "Channels of the SDK: `newer` (llm)",
        "Errors: nobody knows",
    ]


def test_every_row_is_a_sentence_with_a_public_source():
    rows = behaviours.behaviours()
    assert len({(row.area, row.subject, row.says) for row in rows}) == len(rows)
    for row in rows:
        assert row.evidence in typing.get_args(Evidence), row
        assert row.says.endswith("."), row
        assert row.source or row.evidence == "harness", row
    for source in [row.source for row in rows] + [switch.source for switch in switches()]:
        assert not re.search(
            r"reference/|\.md\b|(?<!api)/work|(?<!-)bug-tracker \d|(?<!-)bug-tracker#", source
        ), source


def test_a_function_may_say_several_things():
    @known("documented", "here")
    @known("observed", "there", "It does more.")
    def something():
        """Do it.

        More.
        """

    assert [(fact.says, fact.evidence, fact.source) for fact in facts_of(something)] == [
        ("Do it.", "documented", "here"),
        ("It does more.", "observed", "there"),
    ]


async def test_the_list_of_events_is_that_of_the_wire(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(unknown_event=True, tool_call_name_event=True)
    http = await connect(emulator)
    body = {"model": THINKING, "stream": True, "integrations": ["mcp/files"]}
    seen = set()
    for prompt in ('[[tool=read_file {"path": "a"}]]', "[[tool=fly {}]]"):
        seen |= {name for name, _ in await http.events("/api/v1/chat", {**body, "input": prompt})}
    emulator.configure(crash_after_tokens=2)
    seen |= {name for name, _ in await http.events("/api/v1/chat", {**body, "input": "Hi"})}
    assert seen == {fact.subject for fact in stream_facts.EVENTS}


@pytest.fixture
def frame():
    """Make a frame that opens a channel."""

    def make(endpoint, number, **parameter):
        return {
            "type": "channelCreate",
            "endpoint": endpoint,
            "channelId": number,
            "creationParameter": parameter,
        }

    return make


async def test_the_list_of_packets_is_that_of_the_wire(make_lmstudio_emulator, connect, frame):
    emulator = await make_lmstudio_emulator(unknown_packet=True)
    http = await connect(emulator)
    llm, repository = await http.socket("/llm"), await http.socket("/repository")
    for socket_ in (llm, repository):
        await socket_.ask(HELLO)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    tools = {"key": "llm.prediction.tools", "value": {"type": "toolArray", "tools": [tool]}}
    said, garbled = (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
        for text in ('[[tool=add {"a": 1}]]', "[[garbled=add]]")
    )
    predict = {
        "modelSpecifier": {"type": "query", "query": {"identifier": THINKING}},
        "predictionConfigStack": {"layers": [{"layerName": "apiOverride", "config": {"fields": [tools]}}]},
    }
    empty = {"loadConfigStack": {"layers": []}}
    work = (
        (llm, frame("getOrLoad", 1, identifier=TEXT, **empty)),
        (llm, frame("getOrLoad", 2, identifier=THINKING, **empty)),
        (llm, frame("getOrLoad", 3, identifier=THINKING, **empty)),
        (llm, frame("loadModel", 4, modelKey=TEXT, **empty)),
        (llm, frame("predict", 5, history=said, **predict)),
        (llm, frame("predict", 6, history=garbled, **predict)),
        (repository, frame("downloadModel", 1, downloadIdentifier=MISSING)),
    )
    seen = set()
    for socket_, opening in work:
        await socket_.socket.send_json(opening)
        seen |= {packet["type"] for packet in await socket_.until("channelClose")} - {"channelClose"}
    assert seen == {fact.subject for fact in packet_facts.PACKETS}
