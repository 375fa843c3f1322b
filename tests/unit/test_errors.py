import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmbridge import LMBridgeError, ModelNotFound, ServerError, TimedOut, errors
from lmbridge.errors import near_matches, redact

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_carries_the_same_facts_and_survives_pickling(cls):
    error = cls("it broke", hint="mend it", connection="c", provider="p", status=418, retry_after=2.0)
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert isinstance(one, LMBridgeError)
        assert (one.message, one.hint, one.connection, one.provider) == ("it broke", "mend it", "c", "p")
        assert (one.status, one.retry_after) == (418, 2.0)
        assert str(one) == "c: it broke (mend it)"
    assert type(again) is cls


@pytest.mark.parametrize("cls", CLASSES)
def test_the_tree_in_the_docstring_is_the_tree(cls):
    line = next(line for line in errors.__doc__.splitlines() if f" {cls.__name__} " in f"{line} ")
    depth = (len(line) - len(line.lstrip(" │├└─"))) // 4 - 1
    assert depth == len([base for base in cls.__mro__ if issubclass(base, LMBridgeError)]) - 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bad key sk-lm-AbCd1234:zyxwvutsrqponmlkjihg in use", "bad key *** in use"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("http://user:pass@host/v1", "http://***@host/v1"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, shown):
    assert redact(text) == shown
    assert str(ServerError(text, hint="")) == shown
    assert text == shown or text not in repr(ServerError("x", hint=text))


@pytest.mark.parametrize(
    "secret",
    ["sk-abc.def/ghi=", "correct horse battery", "sk-one two", "it's sk-or-is-it", "a://b@c", "sk-a***b"],
)
@pytest.mark.parametrize("text", ["the key {} is wrong", "Authorization: Bearer {}", "'{}'", "x{}y {}"])
def test_nothing_is_left_of_a_secret_that_looks_like_a_key_only_in_part(secret, text):
    error = ServerError(text.replace("{}", secret), hint=f"not {secret}")
    error.locate("c", "p", [secret])
    shown = f"{error} {error!r} {error.args}"
    assert not any(part in shown for part in (secret, secret[-5:], secret[3:8]))
    assert redact(shown, [secret]) == shown


def test_known_secrets_are_masked_wherever_they_stand():
    error = ServerError("the key hunter2 is wrong", hint="not hunter2")
    error.locate("c", "p", ["hunter2"])
    assert "hunter2" not in f"{error} {error!r} {error.args}"


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_redacting_never_fails_and_is_idempotent_for_patterns(text, secrets):
    redact(text, secrets)
    assert redact(redact(text)) == redact(text)


def test_locating_keeps_what_is_known():
    error = ServerError("x", connection="mine")
    error.locate("other", "p")
    assert (error.connection, error.provider) == ("mine", "p")


def test_near_models_become_the_hint():
    assert ModelNotFound("x", model="a", near=["b", "c"]).hint == "did you mean 'b', 'c'?"


def test_a_timeout_is_a_timeout_error():
    assert isinstance(TimedOut("x", clock="idle", seconds=1.0), TimeoutError)


@pytest.mark.parametrize(
    ("name", "near"),
    [("qwen3-4", ("qwen3-4b",)), ("QWEN3-4B", ("qwen3-4b",)), ("gemma", ("google/gemma-3",)), ("zzz", ())],
)
def test_near_matches(name, near):
    assert near_matches(name, ["qwen3-4b", "google/gemma-3", "llava"]) == near
