"""The kit fails on exactly the rule that a provider breaks, and says what to do.

One provider keeps every rule (``solid.py``). Each case below changes a line or two of it, and names the only
tests that may fail then.
"""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import pydantic
import pytest

import lmbridge
from lmbridge.testing import remains
from lmbridge.testing.conformance import deadlines

pytest_plugins = ["pytester"]

# pytester forgets the modules that were imported first by a run inside of this process. Imported once more,
# their classes would be others than those that the rest of lmbridge knows.
IMPORTED = [np, PIL.Image, pydantic]
IMPORTED += [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(lmbridge.__path__, "lmbridge.")
    if not module.name.startswith(("lmbridge.cli", "lmbridge.emulator", "lmbridge.__main__"))
]

SOLID = (Path(__file__).parent / "solid.py").read_text(encoding="utf-8")
KIT = """
import pytest
from solid import Solid
from lmbridge.testing import ProviderConformance, Reply


class TestSolid(ProviderConformance):
    provider = Solid
    model = "one"
    blind_model = "two"
    patience = {patience}
    comment = b"\\n"
    garbage = b"{{{{{{\\n"
    not_found = Reply.json({{"error": "model 'no-such-model' not found"}}, status=404)

    def script(self, server, turn):
        server.on("GET /models", Reply.json([{{"id": "one", "sees": True}}, {{"id": "two", "sees": False}}]))
        lines = [{{"thought": piece}} for piece in turn.reasoning]
        lines += [{{"text": piece}} for piece in turn.text]
        for call in turn.tool_calls:
            lines.append({{"call": {{"id": call.id, "name": call.name, "arguments": call.arguments}}}})
        done = {{"done": turn.finish, "tokens": [turn.prompt_tokens, turn.completion_tokens]}}
        server.on("POST /chat", Reply.ndjson(*lines, done))
"""


class Case(NamedTuple):
    """One broken rule.

    ``fails`` are patterns of the names of the tests that must fail, all others must not; ``says`` is a part
    of the sentence that the first of them fails with. ``only`` selects tests: for rules whose breach is
    waited for with all patience in nearly every test, and for what costs a process of its own.
    """

    name: str
    changes: tuple[tuple[str, str], ...]
    fails: tuple[str, ...]
    says: str
    only: str = "not importing and not a_refused"


BEGIN = "        answer = Answer()\n"
ASK = 'http.request(context, "POST", "/chat", body=body, model=request.model)'
POST = f"        async with {ASK} as response:\n"
BLOCK = """            async for block in response:
                if events := answer.feed(block):
                    yield events
                else:
                    context.alive()
"""
END = "        yield answer.end(request.model)\n"
LISTING = """    @hookimpl
    async def list_models"""
SWALLOWING = """            queue = asyncio.Queue()
            async def read():
                async for block in response:
                    queue.put_nowait(block)
                queue.put_nowait(b"")
            reading = asyncio.ensure_future(read())
            ignored = 0
            while True:
                try:
                    block = await queue.get()
                except asyncio.CancelledError:
                    ignored += 1
                    if ignored > 3:
                        raise
                    continue
                if not block:
                    break
                if events := answer.feed(block):
                    yield events
"""
BLOCKING = """        import json, urllib.request
        url = context.connection.base_url + "/chat"
        key = context.connection.api_key.get_secret_value()
        posted = urllib.request.Request(url, json.dumps(body).encode(), {"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(posted) as response:
            for block in response:
                yield answer.feed(block)
"""
GENERATE = """    @hookimpl
    async def generate(self, request, context):
        from lmbridge import Fold
        fold = Fold()
        async for events in self.stream(request, context):
            for event in events:
                fold.add(event)
        return msgspec.structs.replace(fold.result(), usage=Usage())

"""
HEALTH = """    @hookimpl
    async def health(self, context):
        from lmbridge import Health
        return Health(ok=True)

"""
UNREADABLE = """        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ProtocolError("the server sent a line that cannot be read") from exc
"""
NO_LIST = """        if not isinstance(listed, list):
            raise ProtocolError("that is no list of models", hint="is it the right server?")
"""
NO_END = """        if self._done is None:
            raise ProtocolError("the answer broke off")
"""
ASK_FIRST = """        try:
            await http.post_json(context, "/chat", body)
        except http.LMBridgeError as exc:
            if exc.status:
                raise http.ServerUnreachable("something is wrong") from exc
"""
BLOCKS = """async def blocks(response):
    async for block in response:
        yield block


"""


def also(*lines: str) -> tuple[str, str]:
    """At the begin of each stream, further lines."""
    return BEGIN, BEGIN + "".join(f"        {line}\n" for line in lines)


def first(*lines: str) -> tuple[str, str]:
    """At the import, further lines."""
    return "_log = logging", "\n".join(lines) + "\n_log = logging"


FAULTS = "test_a_fault"
NOTHING_LEFT = "test_nothing_is_left_behind"
CASES = [
    # -- answers
    Case(
        "two finishes",
        ((END, END + '        yield Finish("stop")\n'),),
        ("test_one_finish_comes_last",),
        "exactly one Finish, not 2",
    ),
    Case(
        "an event behind the finish",
        ((END, END + '        yield TextDelta("!")\n'),),
        ("test_one_finish_comes_last",),
        "nothing comes behind the Finish",
    ),
    Case(
        "no finish",
        ((", Finish(finish, model=model)]", "]"),),
        ("test_one_finish",),
        "Finish",
        "one_finish",
    ),
    Case(
        "reasoning mixed in",
        (("ReasoningDelta(line.thought)", "TextDelta(line.thought)"),),
        ("test_reasoning_is_apart",),
        "with thinking before it the answer",
    ),
    Case(
        "reasoning lost",
        (("events.append(ReasoningDelta(line.thought))", "pass"),),
        ("test_reasoning_is_apart",),
        "the provider tells ''",
    ),
    Case(
        "letters are cut at blocks",
        (("(self._rest + block)", '(self._rest + block.decode(errors="ignore").encode())'),),
        ("test_any_chunking",),
        "in blocks of one byte",
    ),
    Case(
        "text is kept until the end",
        (
            (BLOCK, "            kept = []\n" + BLOCK.replace("yield events", "kept += events")),
            (END, "        yield kept\n" + END),
        ),
        ("test_text_arrives_before",),
        "did not arrive while the server was silent",
        "text_arrives",
    ),
    Case(
        "generate differs",
        ((LISTING, GENERATE + LISTING),),
        ("test_the_whole_answer_equals",),
        "generate and stream differ in usage",
    ),
    Case(
        "tool calls are thrown together",
        (("ToolCallDelta(index,", "ToolCallDelta(0,"),),
        ("test_tool_calls_are_whole",),
        "the folded arguments are no JSON",
    ),
    Case(
        "tool calls have one id",
        (("line.call.id, line", '"call", line'),),
        ("test_tool_calls_are_whole",),
        "each call needs an id of its own",
    ),
    Case(
        "the reason of tool calls is lost",
        (("finish: Any = self._done.done", 'finish: Any = "stop"'),),
        ("test_tool_calls_are_whole",),
        "ends with the reason 'tool_calls'",
    ),
    Case("no usage", (("[Usage(prompt, completion), ", "["),), ("test_usage_is_told",), "yield Usage"),
    Case(
        "the model is not named",
        (("Finish(finish, model=model)", "Finish(finish)"),),
        ("test_the_finish_names",),
        "Finish.model is empty",
    ),
    # -- requests
    Case(
        "pictures are dropped",
        (("for image in message.images]", "for image in ()]"),),
        ("test_pictures_are_sent",),
        "neither refused nor sent",
    ),
    Case(
        "the list does not say who sees",
        (('capabilities=Capabilities(images=item["sees"])', "capabilities=Capabilities()"),),
        ("test_pictures_for_a_model_that_cannot",),
        "does list_models say images=False",
    ),
    Case(
        "an option is dropped",
        ((", **request.options.explicit()}", ', "temperature": request.options.temperature}'),),
        ("test_every_option",),
        "info.options names stop, but the server has not seen it",
    ),
    # -- failures
    Case(
        "no check of the end mark",
        ((NO_END, '        self._done = self._done or Line(done="stop", tokens=(1, 1))\n'),),
        ("test_an_answer_without_its_end", f"{FAULTS}.*a web page"),
        "an answer without its end mark: the call ended well",
    ),
    Case(
        "ends without an error",
        ((END, "        if answer._done is not None:\n    " + END),),
        ("test_an_answer_without_its_end",),
        "the iterator just ended; raise ProtocolError",
    ),
    Case(
        "a list that is none is trusted",
        ((NO_LIST, ""),),
        ("test_a_list_that_fails.*another JSON",),
        "lets something slip",
    ),
    Case(
        "health notices nothing",
        ((LISTING, HEALTH + LISTING),),
        ("test_its_health_is_told",),
        "is said to be well",
    ),
    Case(
        "a hint is empty",
        (('cannot be read")', "cannot be read\", hint='')"),),
        (f"{FAULTS}.*garbage",),
        "the error has no hint",
    ),
    Case(
        "a raw exception",
        ((UNREADABLE, "        finally:\n            pass\n"),),
        (f"{FAULTS}.*garbage",),
        "something that is no error of lmbridge",
    ),
    Case(
        "every error is the same",
        ((POST, ASK_FIRST + POST),),
        (f"{FAULTS}.*(wrong key|too many|failed)",),
        "it must be",
        "wrong and key or many or failed",
    ),
    Case(
        "the key is logged",
        (also('_log.debug("%s", context.connection.api_key.get_secret_value())'),),
        ("test_the_key_appears_nowhere", FAULTS, "test_a_missing", "test_an_answer_without"),
        "the key can be read in the log",
        "key or missing or without_its",
    ),
    Case(
        "the key is written",
        (also("print(context.connection.api_key.get_secret_value())"),),
        ("test_the_key_appears_nowhere", FAULTS, "test_a_missing", "test_an_answer_without"),
        "the key can be read in standard output",
        "key or missing or without_its",
    ),
    Case(
        "the key is in an error in another form",
        (
            ('"the answer broke off"', 'f"the answer broke off {KEY}"'),
            first("import base64", 'KEY = base64.b64encode(b"kit-Zk3v9Qw7Lx2Rt8Yp").decode()'),
        ),
        ("test_an_answer_without_its_end", f"{FAULTS}.*a web page"),
        "the key can be read in str(error)",
    ),
    # -- what is left
    Case(
        "a task is left",
        (also("self.task = asyncio.ensure_future(asyncio.Event().wait())"),),
        (NOTHING_LEFT,),
        "these tasks still run after the bridge was closed",
    ),
    Case(
        "a thread is left",
        (
            also(
                "from threading import Event, Thread",
                "Thread(target=Event().wait, args=(12,), name='left over', daemon=True).start()",
            ),
        ),
        (NOTHING_LEFT,),
        "these threads still run after the loop was closed: left over",
        "nothing_is_left",
    ),
    Case(
        "a generator is left to the collector",
        (
            ("async for block in response:", "async for block in blocks(response):"),
            ("async def pause", BLOCKS + "async def pause"),
        ),
        (f"{NOTHING_LEFT}.close",),
        "left to the garbage collector: blocks in",
    ),
    Case(
        "the environment is changed",
        (also("import os", 'os.environ["NO_PROXY"] = "*"'),),
        (NOTHING_LEFT,),
        "these environment variables were changed: NO_PROXY",
    ),
    Case(
        "a session is left open",
        (
            also(
                "import aiohttp",
                "session = aiohttp.ClientSession()",
                'await session.get(context.connection.base_url + "/models")',
            ),
        ),
        (NOTHING_LEFT,),
        "Unclosed client session",
        "nothing_is_left",
    ),
    Case(
        "cancel is swallowed",
        ((POST + BLOCK, POST + SWALLOWING),),
        ("test_leaving_stops", "test_a_clock"),
        "the server was not told",
        "leaving_stops and cancel or a_clock and idle",
    ),
    # -- loops
    Case(
        "the loop is blocked",
        ((POST + BLOCK, BLOCKING),),
        ("test_the_loop_goes_on",),
        "the event loop stood still",
        "loop_goes_on",
    ),
    Case(
        "a client is kept on self",
        (
            also(
                "loop = self.__dict__.setdefault('loop', asyncio.get_running_loop())",
                "if loop is not asyncio.get_running_loop():",
                "    raise RuntimeError('attached to a different loop')",
            ),
        ),
        ("test_one_loop_after_the_other", "test_two_loops_at_once"),
        "in a second event loop the provider fails",
    ),
    Case(
        "one call at a time in the whole process",
        (
            also("while not LOCK.acquire(blocking=False):", "    await asyncio.sleep(0.01)"),
            (END, END + "        LOCK.release()\n"),
            first("import threading", "LOCK = threading.Lock()"),
        ),
        ("test_two_loops_at_once",),
        "two loops at once wait for each other",
        "two_loops",
    ),
    # -- registration
    Case(
        "the network is touched at import",
        (first("import socket", 'socket.getaddrinfo("localhost", 80)'),),
        ("test_importing_it",),
        "its import touches the network: socket.getaddrinfo",
        "importing",
    ),
    Case(
        "a foreign client is imported",
        (first("import lmstudio"),),
        ("test_importing_it",),
        "its import also imports lmstudio",
        "importing",
    ),
    Case(
        "a misspelt hook",
        (("async def list_models(", "async def list_model("),),
        ("test_its_hooks_have",),
        "did you mean 'list_models'?",
        "hooks",
    ),
]
#: They cost all patience.
IMPATIENT = {
    "text is kept until the end",
    "a session is left open",
    "cancel is swallowed",
    "the loop is blocked",
    "one call at a time in the whole process",
}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """One of the providers blocks on purpose."""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the kit on a provider, and return the outcomes by the name of the test."""
    monkeypatch.setattr(remains, "_SETTLE", 1.0)
    monkeypatch.setattr(deadlines, "_SHORT", 0.05)

    def go(source: str, *arguments: str, patience: float = 20.0) -> dict[str, tuple[str, str]]:
        pytester.makepyfile(solid=source, test_kit=KIT.format(patience=patience))
        pytester.syspathinsert()
        done = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:xdist", *arguments)
        outcomes: dict[str, tuple[str, str]] = {}
        for report in done.getreports("pytest_runtest_logreport"):
            if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
                name = report.nodeid.rpartition("::")[2]
                outcomes[name] = report.outcome, str(report.longrepr or "")
        return outcomes

    return go


def _sentence(report: str) -> str:
    return next((line for line in report.splitlines() if line.startswith("E ")), report[-300:])


def test_a_provider_that_keeps_every_rule_passes(run):
    outcomes = run(SOLID)
    assert len(outcomes) > 50
    assert {name: text for name, (outcome, text) in outcomes.items() if outcome == "failed"} == {}
    skipped = {name for name, (outcome, _) in outcomes.items() if outcome == "skipped"}
    assert skipped == {"test_its_entry_point_names_the_class", "test_its_health_is_told"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_rule_fails_its_own_test(run, case):
    source = SOLID
    for old, new in case.changes:
        assert source.count(old) == 1, f"solid.py has {source.count(old)} times {old!r}"
        source = source.replace(old, new)
    outcomes = run(source, "-k", case.only, patience=2.0 if case.name in IMPATIENT else 20.0)
    failed = {name: text for name, (outcome, text) in outcomes.items() if outcome == "failed"}
    others = [name for name in failed if not any(re.match(pattern, name) for pattern in case.fails)]
    assert others == [], [f"{name}: {_sentence(failed[name])}" for name in others]
    for pattern in case.fails:
        assert any(re.match(pattern, name) for name in failed), (
            f"{pattern}: nothing fails of {list(outcomes)}"
        )
    first = next(text for name, text in failed.items() if re.match(case.fails[0], name))
    assert case.says in first
