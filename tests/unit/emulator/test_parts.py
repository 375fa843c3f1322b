"""The small parts: tokeniser, prompt language, schema values, clock."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmbridge.emulator import FakeClock, directives, schema, tokens
from lmbridge.emulator.chats import Chats
from lmbridge.emulator.composer import Question, compose
from lmbridge.emulator.conversation import Picture, Tool, Turn
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.files import Files
from lmbridge.emulator.ids import Ids


@settings(deadline=None)  # the machine may be busy
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_tokens_add_up_to_their_text(text):
    pieces = tokens.pieces(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert len(tokens.token_ids(text)) == tokens.count(text) == len(pieces)


@settings(deadline=None)
@given(st.text(alphabet='[]=words 12tool{}":a,'), st.integers(0, 5))
def test_no_text_upsets_the_prompt_language(text, turns):
    history = tuple(Turn("user", "x") for _ in range(turns))
    steps = compose(Question(turns=(*history, Turn("user", text)), tools=(Tool("a"),)))
    assert steps


def test_long_malformed_directives_take_no_long_time():
    text = "[[" * 200_000 + "[[say=" * 50_000
    assert directives.parse(text).say is None
    assert compose(Question(turns=(Turn("user", text),)))


def test_directives_are_read():
    text = (
        '[[words=7]] [[thoughts=3]] [[tool=a {"x": [[1]]}]] [[tool=b]] [[tool2=a {}]] [[say=hey ho]]'
        " [[think=hm]] [[words=x]] [[tool=c {]]"
    )
    found = directives.parse(text)
    assert (found.words, found.thoughts, found.say, found.think) == (7, 3, "hey ho", "hm")
    assert found.tools == {1: [("a", {"x": [[1]]}), ("b", None)], 2: [("a", {})]}
    assert directives.parse("[[words=999999999]]").words == directives.MAX_WORDS


@pytest.mark.parametrize("words", [0, 1, 5, 300])
def test_the_number_of_words_is_exact(words):
    (step,) = compose(Question(turns=(Turn("user", f"[[words={words}]] Hi"),)))
    assert len(step.text.split()) == words


def fits(value, wanted, root):
    """Validate a value against the schemas that these tests make."""
    if "$ref" in wanted:
        return fits(value, root["$defs"][wanted["$ref"].rpartition("/")[2]], root)
    if "const" in wanted:
        return value == wanted["const"]
    if "enum" in wanted:
        return value in wanted["enum"]
    if "anyOf" in wanted:
        return any(fits(value, choice, root) for choice in wanted["anyOf"])
    kind = wanted["type"]
    if kind == "object":
        inner = wanted["properties"]
        if not isinstance(value, dict) or not set(wanted["required"]) <= value.keys():
            return False
        return all(fits(value[key], inner[key], root) for key in value if key in inner)
    if kind == "array":
        sized = isinstance(value, list) and wanted["minItems"] <= len(value) <= wanted["maxItems"]
        return sized and all(fits(entry, wanted["items"], root) for entry in value)
    if kind == "string":
        return isinstance(value, str) and wanted["minLength"] <= len(value) <= wanted["maxLength"]
    if kind in ("integer", "number"):
        kinds = (int,) if kind == "integer" else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and wanted["minimum"] <= value <= wanted["maximum"]
        )
    return isinstance(value, bool) if kind == "boolean" else value is None


def ranged(low, high):
    return st.tuples(st.integers(low, high), st.integers(0, 5)).map(lambda pair: (pair[0], sum(pair)))


leaves = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 5}, {"enum": ["a", 2, None]}]),
    ranged(0, 30).map(lambda r: {"type": "string", "minLength": r[0], "maxLength": r[1]}),
    ranged(-40, 40).map(lambda r: {"type": "integer", "minimum": r[0], "maximum": r[1]}),
    ranged(-40, 40).map(lambda r: {"type": "number", "minimum": r[0], "maximum": r[1]}),
    st.just({"$ref": "#/$defs/leaf"}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner).map(
            lambda p: {"type": "object", "properties": p, "required": sorted(p)[:2]}
        ),
        st.tuples(inner, ranged(0, 4)).map(
            lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1][0], "maxItems": pair[1][1]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(schemas, st.text())
def test_made_up_values_fit_their_schema(wanted, salt):
    root = {**wanted, "$defs": {"leaf": {"type": "boolean"}}}
    value = schema.example(root, salt)
    assert fits(value, wanted, root), value
    assert schema.example(root, salt) == value


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ({"type": ["null", "boolean"], "const": True}, True),
        ({"allOf": [{"type": "object", "properties": {"a": {"const": 1}}}], "required": ["a"]}, {"a": 1}),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 20}, 14),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, 4),
        ({"prefixItems": [{"const": 1}, {"const": "b"}], "type": "array", "items": False}, [1, "b"]),
        ({"$ref": "#/nowhere"}, {}),
    ],
)
def test_special_schemas(wanted, value):
    assert schema.example(wanted, "x") == value


def test_a_schema_that_refers_to_itself_comes_to_an_end():
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
    }
    for salt in "abcdefgh":
        assert json.dumps(schema.example({"$ref": "#/$defs/node", "$defs": {"node": node}}, salt))


def test_what_is_stored_is_bounded():
    picture = Picture(bytes(40))
    files = Files(limit=100)
    names = [files.add(client, "x", picture) for client in ("a", "b", "c")]
    assert [files.get(client, name) for client, name in zip("abc", names, strict=True)] == [
        None,
        picture,
        picture,
    ]
    assert files.get("c", names[1]) is None
    files.opened("b")
    files.opened("b")
    files.closed("b")
    assert len(files) == 2
    files.closed("b")
    assert len(files) == 1
    chats = Chats(Ids(), limit=3, limit_bytes=100)
    for number in range(5):
        chats.store(f"resp_{number}", (Turn("user", "x"),))
    assert len(chats) == 3
    chats.store("resp_picture", (Turn("user", "x", (Picture(bytes(100)),)),))
    assert len(chats) == 1
    assert chats.get("resp_picture")
    with pytest.raises(EmulatedError, match="not found"):
        chats.get("resp_0")


async def test_the_fake_clock_wakes_in_order():
    clock, woken = FakeClock(start=5.0), []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2, 0)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert woken == [(0, 5.0)]
    clock.advance(2.5)
    await asyncio.gather(*tasks[1:3])
    assert woken[1:] == [(1, 7.5), (2, 7.5)]
    clock.advance(1)
    await tasks[0]
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
