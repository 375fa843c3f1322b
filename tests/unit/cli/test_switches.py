"""The emulator's switches."""

import dataclasses

import pytest

from lmbridge import InvalidRequest
from lmbridge.cli.switches import read_switches, switch_rows
from lmbridge.emulator import Pace, Settings


def test_values_have_the_type_of_the_switch() -> None:
    pairs = [
        "jit=false",
        "parallel=2",
        "jit-ttl-s=1.5",
        "greeting=hang",
        "crash_after_tokens=5",
        "pixel_limit=none",
    ]
    values = read_switches(pairs)
    assert values == {
        "jit": False,
        "parallel": 2,
        "jit_ttl_s": 1.5,
        "greeting": "hang",
        "crash_after_tokens": 5,
        "pixel_limit": None,
    }
    assert Settings(**values).pixel_limit is None


@pytest.mark.parametrize(
    ("pair", "message", "hint"),
    [
        ("jitt=1", "no switch 'jitt'", "did you mean jit"),
        ("zzzzzz=1", "no switch 'zzzzzz'", "--switches"),
        ("tokens=x", "tokens has an option of its own", "--token"),
        ("pace=1", "pace has an option of its own", "pace.token"),
        ("jit", "SWITCH=VALUE", ""),
        ("jit=maybe", "jit cannot be 'maybe'", "true or false"),
        ("greeting=bye", "greeting cannot be 'bye'", "one of ok"),
        ("parallel=two", "parallel cannot be 'two'", "an integer"),
        ("parallel=0", "parallel must be at least 1", ""),
        ("jit_ttl_s=nan", "jit_ttl_s must be at least 0", ""),
        ("pace.tokens=1", "no switch 'pace.tokens'", "pace.token"),
        ("pace.token=-1", "pace.token must be at least 0", ""),
    ],
)
def test_what_is_wrong_is_told(pair: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_switches([pair])
    assert hint in caught.value.hint


def test_parts_of_the_pace_are_set_apart() -> None:
    assert read_switches(["pace.token=0.5"])["pace"] == Pace(token=0.5)
    assert read_switches(["pace.token=0.5"], fast=True)["pace"].load_step == 0


def test_every_switch_is_listed_with_its_meaning() -> None:
    rows = {row[0]: row for row in switch_rows()}
    assert list(rows) == [item.name for item in dataclasses.fields(Settings)]
    assert all(meaning for *_, meaning in rows.values())
    assert rows["jit"][1:4] == ("true or false", "true", "documented")
    assert rows["tokens"][2] == "none"
    assert rows["tokens"][4].endswith("Set by --token.")
