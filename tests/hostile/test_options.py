"""Requests that ask for the impossible: refused before anything is sent, whatever the provider is."""

import sys

import pytest

from lmbridge import InvalidRequest, LMBridgeError, Message, Options, Request, ResponseFormat, Timeouts, Tool

HI = Message.user("hi")
NAN, INF, HUGE = float("nan"), float("inf"), 10**400

NUMBERS = {
    "temperature": [-0.1, NAN, INF, -INF, "1", True, [1]],
    "top_p": [-0.1, 1.1, NAN, INF, "1", True],
    "min_p": [-0.1, 1.1, NAN, INF, HUGE, False],
    "top_k": [-1, 1.5, NAN, HUGE, 2**63, "40", True],
    "max_tokens": [0, -2, 1.5, NAN, HUGE, "100", True],
    "seed": [1.5, NAN, HUGE, -HUGE, 2**63, "7", True],
    "presence_penalty": [-2.1, 2.1, NAN, INF, HUGE, "1"],
    "frequency_penalty": [-2.1, 2.1, NAN, -INF, HUGE, "1"],
    "repeat_penalty": [0, -1, NAN, INF, "1"],
    "context_length": [0, -1, 1.5, NAN, HUGE, "4096"],
    "ttl": [-1, NAN, INF, "60"],
    "reasoning": ["yes", "", 1, True, "HIGH", ["low"], {"a": 1}],
    "stop": [[""], ["a", ""]],
    "load": [[1], "x", 7],
    "extra": [[1], "x", 7],
    "draft_model": ["", 7],
}
CASES = [(name, value) for name, values in NUMBERS.items() for value in values]


async def test_every_option_that_is_out_of_range(target, faulty, make_place, meet):
    server = await faulty(target)
    bridge = make_place(target, server.url)
    for name, value in CASES:
        asked = Request(model="m", messages=[HI], options=Options(**{name: value}))
        met = await meet(target, server.url, asked, bridge=bridge)
        assert isinstance(met.error, InvalidRequest), met.error
        assert name in met.error.message
    assert server.requests == ()


def test_every_option_has_a_case():
    assert set(NUMBERS) == set(Options.__struct_fields__)


@pytest.mark.parametrize("clock", ["connect", "first_event", "idle", "total"])
async def test_a_clock_that_cannot_run(target, faulty, make_place, meet, clock):
    server = await faulty(target)
    bridge = make_place(target, server.url)
    for value in (-1, NAN, INF, "5", True, HUGE):
        asked = Request(model="m", messages=[HI], timeouts=Timeouts(**{clock: value}))
        met = await meet(target, server.url, asked, bridge=bridge)
        assert isinstance(met.error, InvalidRequest), met.error
        assert clock in met.error.message
    assert server.requests == ()


class Odd:
    """A value that has no JSON form."""


def endless() -> dict[str, object]:
    value: dict[str, object] = {}
    value["again"] = value
    return value


REQUESTS = {
    "no messages": {"messages": ()},
    "two tools of one name": {"tools": [Tool("a"), Tool("a")]},
    "a choice of a tool that is none": {"tools": [Tool("a")], "tool_choice": "b"},
    "a result in a user's message": {"messages": [Message("user", Message.tool("x", "1").parts)]},
    "a tool's message without a result": {"messages": [Message("tool", HI.parts)]},
    "a preset that does not exist": {"preset": "creativ"},
    "extra that has no JSON form": {"options": Options(extra={"x": Odd()})},
    "extra that is endless": {"options": Options(extra=endless())},
    "extra with keys that are no text": {"options": Options(extra={Odd(): 1})},  # type: ignore[dict-item]
    "a schema that is endless": {"response_format": ResponseFormat(schema=endless())},
    "half a surrogate": {"messages": [Message.user("\ud800")]},
    "half a surrogate in the model's name": {"model": "\udcff"},
    "half a surrogate in a stop text": {"options": Options(stop=["\udcff"])},
    "a line break in the model's name": {"model": "a\r\nX-Evil: 1"},
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_contradicts_itself(target, faulty, make_place, fails, name):
    """Half a surrogate may as well be refused by the server; nothing may be a bug of a plugin."""
    server = await faulty(target, target.delta("Hello"), target.end())
    asked = Request(**{"model": "m", "messages": [HI]} | REQUESTS[name])
    bridge = make_place(target, server.url)
    if name == "a line break in the model's name" and not target.sdk:
        await bridge.generate("place", asked)  # it goes into the body, where it does no harm
        assert all("x-evil" not in sent.headers for sent in server.requests)
        return
    with pytest.raises(LMBridgeError) as caught:
        await bridge.generate("place", asked)
    fails(caught.value)
    assert type(caught.value).__name__ != "PluginError", caught.value


@pytest.mark.parametrize(
    "make",
    [
        lambda: Message("robot", HI.parts),  # type: ignore[arg-type]
        lambda: Message("user", ["text"]),  # type: ignore[list-item]
        lambda: Message("user", "text"),  # type: ignore[arg-type]
        lambda: Request(messages="hi"),  # type: ignore[arg-type]
        lambda: Request(messages=[{"role": "user", "content": "hi"}]),  # type: ignore[list-item]
        lambda: Request(messages=[HI], tools=["a"]),  # type: ignore[list-item]
        lambda: Options(stop="END"),
        lambda: Options(stop=[1]),  # type: ignore[list-item]
    ],
)
def test_what_is_no_request_is_refused_when_it_is_made(make):
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.message
    assert "must" in str(caught.value)


async def test_a_number_that_is_longer_than_a_screen_is_not_shown_in_full(target, meet):
    assert sys.get_int_max_str_digits() < 10_000
    met = await meet(
        target, "http://127.0.0.1:1", Request(model="m", messages=[HI], options=Options(seed=10**10_000))
    )
    assert isinstance(met.error, InvalidRequest), met.error
