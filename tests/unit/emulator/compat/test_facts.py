"""Facts about the compatible routes, each with where it is known from."""

import io
import json

import pytest

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}


def user(text):
    return [{"role": "user", "content": text}]


async def refusal(http, **change):
    body = {"model": TEXT, "messages": user("Hi"), **change}
    return await http.post("/v1/chat/completions", body)


async def test_an_unknown_role_is_named(http):
    # bug-tracker#669
    text = (
        "'messages' array must only contain objects with a 'role' field that is in [user, assistant, system, "
        "tool]. Got 'critic'"
    )
    assert await refusal(http, messages=[{"role": "critic", "content": "x"}]) == (400, {"error": text})


async def test_the_role_developer_becomes_system_with_a_warning(emulator, http):
    _, answer = await refusal(http, messages=[{"role": "developer", "content": "Be kind"}, *user("Hi")])
    assert "My instructions: “Be kind”" in answer["choices"][0]["message"]["content"]
    assert "developer" in emulator.last.warnings[0]


async def test_more_answers_and_probabilities_are_not_to_be_had(http):
    # The documented parameters (openai-compat/chat-completions) know neither; 'logprobs' was seen to be null.
    answer = await http.chat("Hi", n=3, logprobs=True, top_logprobs=2, logit_bias={"1": 5})
    assert len(answer["choices"]) == 1
    assert answer["choices"][0]["logprobs"] is None
    events = await http.events(
        "/v1/chat/completions", {"model": TEXT, "messages": user("Hi"), "stream": True, "n": 3}
    )
    assert {choice["index"] for _, data in events[:-1] for choice in data["choices"]} == {0}


async def test_tools_are_called_in_parallel_in_one_answer(http):
    answer = await http.chat('x [[tool=add {"a": 1}]] [[tool=add {"a": 2}]]', tools=[ADD])
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"])["a"] for call in calls] == [1, 2]
    assert len({call["id"] for call in calls}) == 2


async def test_a_call_of_a_tool_that_was_not_offered_is_the_clients_to_refuse(http):
    body = {"model": TEXT, "messages": user("x [[tool=fly {}]]"), "tools": [ADD]}
    _, answer = await http.post("/v1/chat/completions", body)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert (call["function"]["name"], answer["choices"][0]["finish_reason"]) == ("fly", "tool_calls")
    events = await http.events("/v1/chat/completions", {**body, "stream": True})
    heads = [data["choices"][0]["delta"].get("tool_calls", [{}])[0] for _, data in events[:-1]]
    assert [head["function"]["name"] for head in heads if "id" in head] == ["fly"]
    assert events[-2][1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("route", "body", "armed"),
    [
        ("/v1/chat/completions", {"messages": user("Hi")}, ADD),
        ("/v1/responses", {"input": "Hi"}, {"type": "function", **ADD["function"]}),
        (
            "/v1/messages",
            {"messages": user("Hi"), "max_tokens": 500},
            {"name": "add", "input_schema": ADD["function"]["parameters"]},
        ),
    ],
)
async def test_the_tools_count_as_prompt(http, route, body, armed):
    # Changelog 0.3.17.
    used = []
    for tools in ([], [armed]):
        _, answer = await http.post(route, {"model": TEXT, **body, "tools": tools})
        used.append(answer["usage"].get("prompt_tokens") or answer["usage"]["input_tokens"])
    assert used[1] > used[0] + 5


@pytest.mark.parametrize(
    ("route", "body", "model"),
    [
        ("/v1/chat/completions", {"messages": user("Hi")}, TEXT),
        ("/api/v0/chat/completions", {"messages": user("Hi")}, TEXT),
        ("/v1/completions", {"prompt": "Hi"}, TEXT),
        ("/v1/responses", {"input": "Hi"}, TEXT),
        ("/v1/messages", {"messages": user("Hi"), "max_tokens": 5}, TEXT),
        ("/v1/embeddings", {"input": "Hi"}, EMBEDDING),
        ("/api/v0/embeddings", {"input": "Hi"}, EMBEDDING),
    ],
)
async def test_a_ttl_in_the_request_holds_for_the_load_that_it_causes(emulator, http, route, body, model):
    # Documented in core/ttl-and-auto-evict.
    status, _ = await http.post(route, {"model": model, **body, "ttl": 300})
    assert (status, emulator.instances[0].ttl_s) == (200, 300.0)
    await http.post(route, {"model": model, **body, "ttl": 5})
    assert emulator.instances[0].ttl_s == 300.0


ADVICE = "Try to load the model with a larger context length, or provide a shorter input"
OVERFLOWS = {
    "0.4": "The number of tokens to keep from the initial prompt is greater than the context length "
    f"(n_keep: PROMPT>= n_ctx: 20). {ADVICE}.",
    "0.3": "Trying to keep the first PROMPT tokens when context the overflows. However, the model is loaded "
    f"with context length of only 20 tokens, which is not enough. {ADVICE}",
    "mlx": "Context size has been exceeded",
}


@pytest.mark.parametrize("style", OVERFLOWS)
async def test_overflow_in_the_words_of_each_engine(make_lmstudio_emulator, connect, style):
    # openclaude#353
    emulator = await make_lmstudio_emulator(context_length=20, overflow_text=style)
    http = await connect(emulator)
    status, answer = await refusal(http, messages=user("word " * 50))
    text = OVERFLOWS[style].replace("PROMPT", str(emulator.last.prompt_tokens))
    assert (status, answer) == (400, {"error": text})


async def test_before_0_4_there_was_no_messages_route(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(old_server=True))
    status, answer = await http.post("/v1/messages", {"model": TEXT})
    assert (status, answer) == (200, {"error": "Unexpected endpoint or method. (POST /v1/messages)"})


async def test_a_schema_that_is_none_is_refused(http):
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": 5}},
    }
    status, answer = await refusal(http, response_format=wanted)
    assert (status, answer["error"]["code"]) == (400, "invalid_schema")


async def test_a_body_that_is_too_large_is_refused_in_the_form_of_its_route(http):
    forms = {
        "/v1/chat/completions": {"error": "request entity too large"},
        "/api/v1/chat": {"error": {"type": "invalid_request", "message": "request entity too large"}},
        "/v1/messages": {
            "type": "error",
            "error": {"type": "request_too_large", "message": "request entity too large"},
        },
    }
    body = b'{"model": "' + b"x" * (64 * 1024 * 1024) + b'"}'
    for route, form in forms.items():
        async with http.session.post(route, data=io.BytesIO(body)) as answer:
            assert (answer.status, await answer.json()) == (413, form)
