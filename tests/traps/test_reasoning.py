"""Thinking that gets into the answer, cannot be switched off, or leaves no room for an answer."""

import pytest

import lmbridge
from lmbridge import Options, ResponseFormat

QWEN, GPT_OSS, GRANITE = "qwen/qwen3-4b", "openai/gpt-oss-20b", "ibm/granite-4-micro"
THINK = "[[think=hm, let me see]][[say=It is so.]]"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize("place", ["reasoning_content", "reasoning", "inline", "leaked"])
async def test_thinking_leaks_into_the_answer_from_wherever_the_server_puts_it(make_stand, via, place):
    """Depending on a setting, model and version, thinking comes in a field of its own or within the answer.

    Source: lmstudio-bug-tracker#1569, #378, #894, #2411; lmstudio-js#388.
    """
    stand = await make_stand(separate_reasoning=place)
    result = await stand.ask(via, THINK, model=QWEN)
    assert result.text.strip() == "It is so."
    assert result.reasoning.strip() == "hm, let me see"
    assert "think>" not in result.text


@pytest.mark.parametrize("place", ["leaked", "leaked_inline"])
async def test_the_internal_end_marker_of_lm_studio_stands_in_the_answer(make_stand, via, place):
    """LM Studio 0.4.19 and later leak ``__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_…__``.

    Source: lmstudio-bug-tracker#2371; any-llm#1167, #1171.
    """
    stand = await make_stand(separate_reasoning=place)
    result = await stand.ask(via, THINK, model=QWEN)
    assert "__LM_STUDIO" not in result.text + result.reasoning
    assert result.text.endswith("It is so.")
    # Thinking that nothing announces has been passed on as answer when the marker comes.
    assert result.text.strip() == "It is so." or any("may be reasoning" in note for note in result.notes)


async def test_the_whole_content_of_the_sdk_holds_the_thinking_too(make_stand):
    """The result of the Python SDK has one content with tags and thinking in it; nothing splits it.

    Source: lmstudio-python (json_api, PredictionResult.content).
    """
    stand = await make_stand()
    result = await stand.ask("sdk", THINK, model=QWEN)
    assert (result.text, result.reasoning.strip()) == ("It is so.", "hm, let me see")


async def test_thinking_put_into_the_history_confuses_the_next_turn(make_stand):
    """With the SDK's own ``on_message=chat.append`` the tags and the thinking become history.

    Source: lmstudio-python (AsyncPredictionStream, on_message).
    """
    stand = await make_stand()
    first = await stand.ask("sdk", THINK, model=QWEN)
    later = [lmbridge.Message.user(THINK), first.message, lmbridge.Message.user("And now?")]
    await stand.ask("sdk", later, model=QWEN)
    sent = stand.predictions[-1].body["history"]["messages"][1]
    assert sent["content"][0]["text"] == "It is so."


async def test_a_reasoning_level_that_the_model_lacks_is_a_400(make_stand, via):
    """A level outside of the model's own list fails the whole request on ``/api/v1/chat``.

    Source: lmstudio-bug-tracker#2057; localmind#75.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature) as caught:
        await stand.ask(via, model=QWEN, options=Options(reasoning="xhigh"))
    assert "reasoning" in caught.value.features
    assert not stand.predictions  # refused before anything was sent
    result = await stand.ask(via, model=QWEN, options=Options(reasoning="xhigh"), on_unsupported="adapt")
    assert any("xhigh" in note for note in result.notes)


async def test_switching_off_what_a_model_has_not_is_a_400(make_stand, via):
    """Even ``reasoning: "off"`` is refused by the server if the model has no reasoning setting.

    Source: Deno2026/comfyui-deno-custom-nodes#24, #68.
    """
    stand = await make_stand()
    with pytest.raises(lmbridge.UnsupportedFeature):
        await stand.ask(via, model=GRANITE, options=Options(reasoning="off"))
    result = await stand.ask(via, model=GRANITE, options=Options(reasoning="off"), on_unsupported="adapt")
    assert result.text
    assert any("reasoning" in note for note in result.notes)


async def test_thinking_is_switched_off_in_another_way_on_each_route(make_stand, via):
    """What one route takes, the others ignore: ``reasoning``, ``reasoning_effort`` and ``enableThinking``.

    Source: an engineer of LM Studio in lmstudio-bug-tracker#2057; lmstudio-bug-tracker#632, #1573, #1990.
    """
    stand = await make_stand()
    result = await stand.ask(via, THINK, model=QWEN, options=Options(reasoning="off"))
    assert (result.text, result.reasoning) == ("It is so.", "")


async def test_thinking_eats_the_whole_budget(make_stand, via):
    """A limit of tokens counts the thinking, too: the answer may end before it begins.

    Source: lmstudio-bug-tracker#1602, #1990.
    """
    stand = await make_stand()
    result = await stand.ask(via, "[[thoughts=50]][[say=Yes.]]", model=QWEN, options=Options(max_tokens=10))
    assert (result.text, result.finish_reason) == ("", "length")
    assert any("thinking used up max_tokens" in note for note in result.notes)


async def test_all_of_the_answer_is_thinking(make_stand, via):
    """A model may stop behind its thinking, and the content stays empty without any error.

    Source: lmstudio-bug-tracker#1602, #1698.
    """
    stand = await make_stand()
    result = await stand.ask(via, "[[think=I know it.]][[say=]]", model=QWEN)
    assert (result.text, result.finish_reason) == ("", "stop")
    assert any("only thinking" in note for note in result.notes)


@pytest.mark.parametrize("via", ["sdk", "compat"])
async def test_structured_output_arrives_as_thinking(make_stand, via):
    """Under a schema a thinking model's JSON lands in the reasoning and the content is empty.

    Source: lmstudio-bug-tracker#1698.
    """
    stand = await make_stand(json_in_reasoning=True)
    result = await stand.ask(via, "Where?", model=QWEN, response_format=ResponseFormat(SCHEMA))
    assert result.text.startswith("{")
    assert "city" in result.text
    assert any("as reasoning" in note for note in result.notes)
