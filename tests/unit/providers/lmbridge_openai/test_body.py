"""Requests as each kind of server understands them."""

from types import MappingProxyType
from typing import Any

import pytest

from lmbridge.chat import Message, Options, Request, ResponseFormat, Tool, ToolCallPart
from lmbridge.errors import InvalidRequest, UnsupportedFeature
from lmbridge.http import encode_json
from lmbridge.operations import EmbedRequest
from lmbridge_openai.body import chat_body, complete_body, depends_on_dialect
from lmbridge_openai.dialects import DIALECTS
from lmbridge_openai.embeddings import embed_body

WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("time")


class Made:
    def __init__(self, body: dict[str, Any], notes: list[str]) -> None:
        self.body = body
        self.notes = notes


def make(dialect: str = "generic", *, include_usage: bool = True, **fields: Any) -> Made:
    notes: list[str] = []
    fields.setdefault("messages", (Message.user("hi"),))
    request = Request(model="m", **fields)
    body = chat_body(
        request, DIALECTS[dialect], notes.append, lambda image: "data:,x", include_usage=include_usage
    )
    return Made(body, notes)


def option(dialect: str = "generic", **options: Any) -> dict[str, Any]:
    body = make(dialect, options=Options(**options)).body
    return {key: body[key] for key in body.keys() - {"model", "messages", "stream", "stream_options"}}


# -- messages --------------------------------------------------------------------------------------------


def messages(*given: Message) -> Any:
    return make(messages=given).body["messages"]


def test_the_smallest_body() -> None:
    assert make().body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_servers_that_refuse_stream_options_are_spared_them() -> None:
    assert "stream_options" not in make(include_usage=False).body


def test_a_whole_conversation() -> None:
    calls = [ToolCallPart("c1", "weather", '{"city":"Bern"}'), ToolCallPart("c2", "time")]
    assert messages(
        Message.system("Be terse."),
        Message.user("Weather?"),
        Message.assistant("Let me see.", tool_calls=calls),
        Message.tool("rain", "c1"),
        Message.tool("no clock", "c2", is_error=True),
        Message.assistant("Rain."),
        Message.assistant(tool_calls=calls[1:]),
    ) == [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Bern"}'},
                },
                {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: no clock"},
        {"role": "assistant", "content": "Rain."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}],
        },
    ]


def test_several_results_in_one_message_become_a_message_each() -> None:
    both = Message("tool", (*Message.tool("1", "a").parts, *Message.tool("2", "b").parts))
    assert [item["tool_call_id"] for item in messages(both)] == ["a", "b"]


def test_pictures_are_parts_in_their_order(picture: bytes) -> None:
    assert messages(Message.user("Compare.", images=[picture, picture])) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Compare."},
                {"type": "image_url", "image_url": {"url": "data:,x"}},
                {"type": "image_url", "image_url": {"url": "data:,x"}},
            ],
        }
    ]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_picture_outside_of_a_users_turn_is_refused(picture: bytes, role: Any) -> None:
    with pytest.raises(UnsupportedFeature, match=role):
        messages(Message(role, Message.user(images=[picture]).parts))


# -- options ---------------------------------------------------------------------------------------------


def test_plain_options_keep_their_names() -> None:
    plain = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "max_tokens": 50,
    }
    for dialect in ("generic", "lmstudio", "llamacpp", "ollama", "vllm", "openrouter"):
        assert option(dialect, **plain) == plain


def test_stop_is_a_list_and_no_limit_sends_none() -> None:
    assert option(stop=("a", "b"), max_tokens=-1) == {"stop": ["a", "b"]}


def test_openai_wants_max_completion_tokens() -> None:
    assert option("openai", max_tokens=5) == {"max_completion_tokens": 5}


@pytest.mark.parametrize(
    ("dialect", "name"), [("lmstudio", "repeat_penalty"), ("vllm", "repetition_penalty")]
)
def test_the_repeat_penalty_has_two_names(dialect: str, name: str) -> None:
    assert option(dialect, repeat_penalty=1.1) == {name: 1.1}


def test_the_ttl_is_whole_seconds_for_lm_studio() -> None:
    assert option("lmstudio", ttl=0.5, draft_model="d") == {"ttl": 1, "draft_model": "d"}


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ("ollama", {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1, "ttl": 5, "draft_model": "d"}),
        ("openai", {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1, "ttl": 5, "draft_model": "d"}),
        ("vllm", {"ttl": 5, "draft_model": "d"}),
        ("llamacpp", {"ttl": 5, "draft_model": "d"}),
        ("openrouter", {"ttl": 5, "draft_model": "d"}),
    ],
)
def test_what_a_server_would_silently_drop_is_refused_or_left_out_with_a_note(
    dialect: str, options: dict[str, Any]
) -> None:
    for name, value in options.items():
        with pytest.raises(UnsupportedFeature, match=name) as caught:
            make(dialect, options=Options(**{name: value}))
        assert caught.value.features == (name,)
        made = make(dialect, options=Options(**{name: value}), on_unsupported="adapt")
        assert name not in made.body
        assert name in made.notes[0]


def test_what_a_server_does_not_document_is_sent_with_a_note() -> None:
    made = make("lmstudio", options=Options(min_p=0.1))
    assert made.body["min_p"] == 0.1
    assert "min_p" in made.notes[0]


REASONING = [
    ("lmstudio", "off", {"reasoning_effort": "none"}),
    ("lmstudio", "on", {"reasoning_effort": "medium"}),
    ("lmstudio", "high", {"reasoning_effort": "high"}),
    ("ollama", "off", {"reasoning_effort": "none"}),
    ("openai", "minimal", {"reasoning_effort": "minimal"}),
    ("openrouter", "off", {"reasoning": {"enabled": False}}),
    ("openrouter", "on", {"reasoning": {"enabled": True}}),
    ("openrouter", "xhigh", {"reasoning": {"effort": "xhigh"}}),
    ("llamacpp", "off", {"chat_template_kwargs": {"enable_thinking": False}}),
    ("llamacpp", "high", {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"}}),
    ("vllm", "off", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
    ("vllm", "on", {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}),
    ("vllm", "low", {"reasoning_effort": "low"}),
    ("generic", "off", {"reasoning_effort": "none"}),
]


@pytest.mark.parametrize(("dialect", "level", "keys"), REASONING)
def test_reasoning(dialect: str, level: str, keys: dict[str, Any]) -> None:
    assert option(dialect, reasoning=level) == keys


# -- further keys ----------------------------------------------------------------------------------------


def test_extra_keys_win() -> None:
    assert option(temperature=0.1, extra={"temperature": 0.9, "logit_bias": {"1": 2}}) == {
        "temperature": 0.9,
        "logit_bias": {"1": 2},
    }


def test_extra_mappings_are_merged_key_by_key() -> None:
    extra = {"chat_template_kwargs": {"add": 1}, "stream_options": {"include_usage": False}}
    body = make("llamacpp", options=Options(reasoning="off", extra=extra)).body
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "add": 1}
    assert body["stream_options"] == {"include_usage": False}


@pytest.mark.parametrize("name", ["stream", "messages", "model"])
def test_extra_cannot_replace_the_request_itself(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        make(options=Options(extra={name: 1}))


def test_what_has_no_json_form_is_refused_before_the_network() -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        encode_json(make(options=Options(extra={"x": object()})).body)
    assert b'"x":{"a":1}' in encode_json(make(options=Options(extra={"x": MappingProxyType({"a": 1})})).body)


# -- tools -----------------------------------------------------------------------------------------------


def tools(dialect: str, choice: str | None, **fields: Any) -> Made:
    return make(dialect, tools=(WEATHER, TIME), tool_choice=choice, **fields)


def names(made: Made) -> list[str]:
    return [tool["function"]["name"] for tool in made.body["tools"]]


def test_tools() -> None:
    made = tools("generic", None)
    assert made.body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather",
                "parameters": WEATHER.parameters,
            },
        },
        {"type": "function", "function": {"name": "time", "parameters": TIME.parameters}},
    ]
    assert "tool_choice" not in made.body


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_tool_choice_in_words(choice: str) -> None:
    for dialect in ("lmstudio", "openai", "llamacpp"):
        assert tools(dialect, choice).body["tool_choice"] == choice


def test_a_named_tool_is_an_object_where_that_is_understood() -> None:
    made = tools("openai", "time")
    assert made.body["tool_choice"] == {"type": "function", "function": {"name": "time"}}
    assert names(made) == ["weather", "time"]


@pytest.mark.parametrize("dialect", ["lmstudio", "llamacpp"])
def test_a_named_tool_is_the_only_one_where_objects_are_refused(dialect: str) -> None:
    made = tools(dialect, "time")
    assert made.body["tool_choice"] == "required"
    assert names(made) == ["time"]
    assert "'time'" in made.notes[0]


def test_ollama_takes_no_notice_of_tool_choice() -> None:
    assert "tools" not in tools("ollama", "none").body
    for choice in ("required", "time"):
        with pytest.raises(UnsupportedFeature, match="must call"):
            tools("ollama", choice)
    made = tools("ollama", "time", on_unsupported="adapt")
    assert names(made) == ["time"]
    assert "tool_choice" not in made.body
    assert made.notes
    assert names(tools("ollama", "required", on_unsupported="adapt")) == ["weather", "time"]


def test_tool_choice_without_tools() -> None:
    assert "tool_choice" not in make(tool_choice="none").body
    with pytest.raises(InvalidRequest, match="no tool"):
        make(tool_choice="required")


# -- the form of the answer ------------------------------------------------------------------------------


def test_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    made = make(response_format=ResponseFormat(schema, name="thing", strict=False))
    assert made.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "thing", "strict": False, "schema": schema},
    }


def test_any_json_object() -> None:
    assert make(response_format=ResponseFormat()).body["response_format"] == {"type": "json_object"}


def test_any_json_object_on_lm_studio_is_a_schema() -> None:
    made = make("lmstudio", response_format=ResponseFormat())
    assert made.body["response_format"]["type"] == "json_schema"
    assert made.body["response_format"]["json_schema"]["schema"] == {"type": "object"}


# -- other routes ----------------------------------------------------------------------------------------


def test_plain_completions() -> None:
    options = Options(max_tokens=5, temperature=0.5, stop=("x",), extra={"echo": True})
    assert complete_body("Once", "m", options, DIALECTS["openai"], print, include_usage=False) == {
        "model": "m",
        "prompt": "Once",
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 5,
        "stop": ["x"],
        "echo": True,
    }
    with pytest.raises(InvalidRequest, match="prompt"):
        complete_body("a", "m", Options(extra={"prompt": "b"}), DIALECTS["openai"], print, include_usage=True)


def test_embeddings() -> None:
    assert embed_body(EmbedRequest(texts=("a", "b"), extra={"dimensions": 8}), "m") == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 8,
    }
    with pytest.raises(InvalidRequest, match="input"):
        embed_body(EmbedRequest(texts=("a",), extra={"input": []}), "m")


@pytest.mark.parametrize(
    ("fields", "depends"),
    [
        ({}, False),
        ({"options": Options(temperature=1, stop=("a",), max_tokens=4)}, False),
        ({"tool_choice": "auto", "tools": (TIME,)}, False),
        ({"response_format": ResponseFormat({})}, False),
        ({"options": Options(reasoning="off")}, True),
        ({"options": Options(top_k=4)}, True),
        ({"tool_choice": "time", "tools": (TIME,)}, True),
        ({"response_format": ResponseFormat()}, True),
    ],
)
def test_when_it_matters_what_kind_of_server_it_is(fields: dict[str, Any], depends: bool) -> None:
    assert depends_on_dialect(Request(**fields)) is depends
