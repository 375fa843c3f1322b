"""LM Studio's asynchronous Python client: answers, pictures, tools, structure, limits."""

import asyncio
import json

import lmstudio as lms
import pytest

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"


async def test_reasoning_prompt_progress_and_stats(client, consumed):
    model = await client.llm.model(THINKING)
    chat = lms.Chat("Be kind")
    chat.add_user_message("Hello")
    progress: list[float] = []
    options = {
        "temperature": 0.3,
        "topKSampling": 11,
        "topPSampling": 0.8,
        "maxTokens": 300,
        "repeatPenalty": 1.5,
    }
    stream = await model.respond_stream(chat, config=options, on_prompt_processing_progress=progress.append)
    pieces, result = await consumed(stream)
    assert list(pieces) == ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]
    assert (pieces["reasoningStartTag"], pieces["reasoningEndTag"]) == ("<think>", "</think>")
    wanted = (
        "temperature=0.3",
        "top_k=11",
        "top_p=0.8",
        "max_tokens=300",
        "repeat_penalty=1.5",
        "Be kind",
        "Hello",
    )
    assert all(part in pieces["none"] for part in wanted)
    assert progress[0] == 0.0
    assert progress[-1] == 1.0
    assert len(progress) >= 4
    assert result.stats.stop_reason == "eosFound"
    assert result.model_info.model_key == THINKING
    counted = await model.count_tokens(pieces["none"]) + await model.count_tokens(pieces["reasoning"]) + 2
    assert result.stats.predicted_tokens_count == counted
    prompt = await model.apply_prompt_template(chat)
    assert (
        result.stats.prompt_tokens_count
        == await model.count_tokens(prompt)
        == len(await model.tokenize(prompt))
    )
    assert await model.tokenize(["a b", "c"]) == [await model.tokenize("a b"), await model.tokenize("c")]


async def test_limits_and_stop_strings(client):
    model = await client.llm.model(TEXT)
    short = await model.respond("[[words=40]]", config={"maxTokens": 4})
    assert short.stats.stop_reason == "maxPredictedTokensReached"
    assert short.stats.predicted_tokens_count == 4
    stopped = await model.respond("[[say=one two three]]", config={"stopStrings": ["two"]})
    assert (stopped.content, stopped.stats.stop_reason) == ("one ", "stopStringFound")
    full = await client.llm.load_new_instance(TEXT, config={"contextLength": 40})
    config = {"contextOverflowPolicy": "stopAtLimit"}
    assert (await full.respond("[[words=90]]", config=config)).stats.stop_reason == "contextLengthReached"
    with pytest.raises(lms.LMStudioServerError, match="n_keep"):
        await full.respond("word " * 50)


async def test_speculative_decoding_shows_in_the_stats(client):
    model = await client.llm.model(TEXT)
    stats = (await model.respond("Hi", config={"draftModel": THINKING})).stats
    assert stats.used_draft_model_key == THINKING
    assert stats.total_draft_tokens_count == stats.predicted_tokens_count
    plain = (await model.respond("Hi")).stats
    assert plain.used_draft_model_key is None


async def test_small_and_large_pictures(client, picture):
    model = await client.llm.model(VISION)
    chat = lms.Chat()
    small = await client.prepare_image(picture((1, 1), "blue"))
    large = await client.prepare_image(picture((1600, 1450), None))
    assert large.size_bytes > 6_900_000
    assert large.file_type == "image"
    chat.add_user_message("Compare", images=[small, large])
    text = (await model.respond(chat)).content
    assert "Picture 1 is 1x1 pixels, PNG, mostly blue" in text
    assert "Picture 2 is 1600x1450 pixels" in text


async def test_pictures_belong_to_their_client_and_need_eyes(emulator, client, picture):
    handle = await client.prepare_image(picture((2, 2)))
    chat = lms.Chat()
    chat.add_user_message("Look", images=[handle])
    text_model = await client.llm.model(TEXT)
    with pytest.raises(lms.LMStudioServerError, match="does not support images"):
        await text_model.respond(chat)
    async with lms.AsyncClient(emulator.address) as other:
        with pytest.raises(lms.LMStudioServerError, match="not found"):
            await (await other.llm.model(VISION)).respond(chat)


async def test_tools_in_rounds(client):
    model = await client.llm.model(TEXT)
    called = []

    async def add(a: int, b: int) -> int:
        """Add."""
        called.append((a, b))
        return a + b

    messages: list = []
    prompt = 'Sum [[tool=add {"a": 2, "b": 40}]] [[tool2=add {"a": 1, "b": 1}]]'
    result = await model.act(prompt, [add], on_message=messages.append)
    assert called == [(2, 40), (1, 1)]
    assert result.rounds == 3
    assert "The tool answered: 42. The tool answered: 2." in messages[-1].content[0].text


async def test_structured_output(client):
    model = await client.llm.model(TEXT)
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    result = await model.respond("Give", response_format=schema)
    assert result.parsed == json.loads(result.content)
    assert result.parsed["n"] >= 1
    grammar = {"type": "gbnf", "gbnfGrammar": 'root ::= "yes" | "no"'}
    assert (await model.respond("Well?", response_format=grammar)).content in ("yes", "no")


async def test_completion(client):
    result = await (await client.llm.model(TEXT)).complete("Once upon a time", config={"maxTokens": 30})
    assert "You wrote: “Once upon a time”" in result.content


async def test_a_crash_is_a_server_error(emulator, client):
    model = await client.llm.model(TEXT)
    emulator.configure(crash_after_tokens=3)
    with pytest.raises(lms.LMStudioServerError, match="The model has crashed"):
        await model.respond("Hi")
    assert emulator.instances == []


async def test_eight_predictions_at_once_share_four_slots(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=1)
    tasks = [asyncio.create_task(model.respond(f"[[say=answer {n}]]")) for n in range(8)]
    await gate.reached(4)
    await emulator.wait_for(lambda e: sum(r.phase == "queued" for r in e.find("predict")) == 4)
    assert gate.arrived == 4
    gate.release()
    results = await asyncio.gather(*tasks)
    assert [result.content for result in results] == [f"answer {n}" for n in range(8)]


async def test_a_tool_that_fails_and_one_that_is_unknown(client):
    model = await client.llm.model(TEXT)

    def fail() -> str:
        """Fail."""
        raise RuntimeError("the tool is broken")

    messages: list = []
    result = await model.act("[[tool=fail]]", [fail], on_message=messages.append)
    assert result.rounds == 2
    assert "the tool is broken" in messages[-1].content[0].text
    messages.clear()
    await model.act("[[tool=fly]]", [fail], on_message=messages.append)
    assert "Cannot find tool with name fly." in messages[-1].content[0].text
    invalid: list = []

    def refuse(error, request):
        invalid.append((str(error), request.name))
        raise error

    with pytest.raises(lms.LMStudioPredictionError, match="Cannot find tool"):
        await model.act("[[tool=fly]]", [fail], handle_invalid_tool_request=refuse)
    assert invalid[0][1] == "fly"


async def test_a_call_that_cannot_be_read(emulator, client):
    model = await client.llm.model(TEXT)

    def add(a: int) -> int:
        """Add."""
        return a

    with pytest.raises(lms.LMStudioPredictionError):
        await model.act("[[garbled=add]]", [add])


async def test_several_tools_in_one_round_and_the_last_round(client):
    model = await client.llm.model(TEXT)
    called: list[int] = []

    def note(n: int) -> int:
        """Note a number."""
        called.append(n)
        return n

    prompt = 'Do [[tool=note {"n": 1}]] [[tool=note {"n": 2}]] [[tool2=note {"n": 3}]]'
    result = await model.act(prompt, [note], max_parallel_tool_calls=2)
    assert (sorted(called), result.rounds) == ([1, 2, 3], 3)
    called.clear()
    assert (await model.act(prompt, [note], max_prediction_rounds=2)).rounds == 2
    assert sorted(called) == [1, 2]


async def test_structure_of_a_class(client):
    class Book(lms.BaseModel):
        title: str
        year: int

    model = await client.llm.model(TEXT)
    result = await model.respond("A book", response_format=Book)
    assert Book.__struct_fields__ == ("title", "year")
    assert isinstance(result.parsed["title"], str)
    assert isinstance(result.parsed["year"], int)


async def test_callbacks(client):
    model = await client.llm.model(TEXT)
    seen: list = []
    result = await model.respond(
        "[[say=one two]]",
        on_message=lambda message: seen.append(message.content[0].text),
        on_first_token=lambda: seen.append("first"),
        on_prediction_fragment=lambda fragment: seen.append(fragment.content),
    )
    assert seen == ["first", "one", " two", "one two"]
    assert result.content == "one two"
