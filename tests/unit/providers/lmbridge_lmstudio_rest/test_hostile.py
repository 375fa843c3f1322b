"""Whatever a server sends becomes events or an error of ours."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from lmbridge.chat import from_json, to_json
from lmbridge.errors import LMBridgeError
from lmbridge.events import Finish
from lmbridge.folding import Fold
from lmbridge_lmstudio_rest.decoding import ChatDecoder
from lmbridge_lmstudio_rest.listing import key_of, model_of_v1

KINDS = [
    "chat.start",
    "model_load.progress",
    "model_load.end",
    "prompt_processing.progress",
    "reasoning.delta",
    "message.delta",
    "message.end",
    "tool_call.start",
    "tool_call.arguments",
    "tool_call.success",
    "tool_call.failure",
    "chat.end",
    "something.new",
]
FIELDS = [
    "content",
    "progress",
    "load_time_seconds",
    "tool",
    "arguments",
    "output",
    "reason",
    "metadata",
    "error",
    "result",
    "stats",
    "type",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
EVENT = st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS[:-1]), JSON, max_size=5))


class Notes:
    def note(self, text: str) -> None:
        assert text


@settings(deadline=None, max_examples=300)
@given(st.lists(EVENT, max_size=8))
def test_any_fields_of_any_event(events):
    decoder, got = ChatDecoder(Notes(), max_tokens=5), []  # type: ignore[arg-type]
    received = [(kind.encode(), json.dumps({"type": kind, **fields}).encode()) for kind, fields in events]
    with suppress(LMBridgeError):
        ended = decoder.feed(received, got)
        assert not any(isinstance(event, Finish) for event in got)
        if ended:
            got += decoder.ending()
            assert isinstance(got[-1], Finish)
    fold = Fold()
    for event in got:
        assert from_json(to_json(event), type(event)) == event  # every field has the type it promises
        fold.add(event)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.none() | st.binary(max_size=12), st.binary(max_size=40)), max_size=4))
def test_any_bytes(received):
    with suppress(LMBridgeError):
        ChatDecoder(Notes()).feed(received, [])  # type: ignore[arg-type]


ENTRY = [
    "type",
    "key",
    "id",
    "quantization",
    "size_bytes",
    "loaded_instances",
    "config",
    "context_length",
    "parallel",
    "max_context_length",
    "capabilities",
    "vision",
    "reasoning",
    "allowed_options",
    "variants",
    "selected_variant",
    "display_name",
]
ANY_ENTRY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(2**80)
    | st.floats(allow_nan=False)
    | st.sampled_from(["llm", "on", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ENTRY), inner, max_size=5),
    max_leaves=15,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(ENTRY), ANY_ENTRY, max_size=8))
def test_any_entry_of_a_listing(entry):
    model = model_of_v1(entry, key_of(entry) or "m")
    assert from_json(to_json(model), type(model)) == model
