"""Prompts that do not fit, and what servers make of them."""

import pytest

import lmbridge
from lmbridge import Options

GRANITE = "ibm/granite-4-micro"
LARGE = "word " * 3000


@pytest.mark.parametrize("words", ["0.4", "0.3", "mlx", "llama-server"])
@pytest.mark.parametrize("overflow", ["error", "in_stream"])
async def test_an_overflow_has_four_wordings_and_two_places(make_stand, via, overflow, words):
    """Engines and versions say it in words of their own, with status 400 or inside a stream of 200.

    Source: lmstudio-bug-tracker#2322, #546, #2256; Gitlawb/openclaude#353.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=1024, overflow=overflow, overflow_text=words)
    with pytest.raises(lmbridge.ContextOverflow) as caught:
        await stand.ask(via, LARGE)
    assert "context" in caught.value.hint


async def test_an_overflow_is_a_silent_empty_answer(make_stand, via):
    """With GGUF models a prompt beyond the context may end as an empty stream of status 200.

    Source: lmstudio-bug-tracker#2339, #1806.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=1024, overflow="silent")
    with pytest.raises(lmbridge.LMBridgeError) as caught:
        await stand.ask(via, LARGE)
    assert "context" in str(caught.value)


async def test_the_middle_of_a_prompt_is_cut_out_without_a_word(make_stand):
    """The SDK's default policy is ``truncateMiddle``: what does not fit is left out of the prompt.

    Source: lmstudio-js (contextOverflowPolicy); lmstudio-bug-tracker#2322.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=1024)
    with pytest.raises(lmbridge.ContextOverflow, match="1024"):
        await stand.ask("sdk", LARGE)
    assert not stand.predictions  # nothing was sent
    policy = Options(extra={"contextOverflowPolicy": "truncateMiddle"})
    partial, _ = await stand.until_error("sdk", LARGE, options=policy)  # asked for: the server decides
    assert len(stand.predictions) == 1
    assert not partial.text


async def test_the_prompt_is_measured_by_what_is_loaded(make_stand):
    """A client that trusts ``max_context_length`` sends prompts that cannot fit what is loaded.

    Source: cline/cline#13472; co-l/openfox#49; openclaw/openclaw#141357.
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=16384)
    assert (await stand.ask("sdk", LARGE + "[[say=it fits]]")).text == "it fits"
    small = await make_stand(loaded=(GRANITE,), context_length=512)
    with pytest.raises(lmbridge.ContextOverflow):
        await small.ask("sdk", LARGE)
    assert not small.predictions  # found out before it was sent


async def test_an_answer_outgrows_the_context_and_looks_complete(make_stand, via):
    """Behind the end of the context the server leaves out the middle of what was said, without a word.

    Source: lmstudio-bug-tracker#2256, #2322; lmstudio-js (contextOverflowPolicy).
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=256)
    result = await stand.ask(via, "[[words=500]]")
    assert any("256" in note for note in result.notes) or result.finish_reason == "length"
    assert any("context" in note for note in result.notes)


async def test_an_answer_that_ends_where_the_context_is_full(make_stand):
    """With the policy ``stopAtLimit`` an answer is cut for a reason that no other interface has a name for.

    Source: lmstudio-js (contextLengthReached).
    """
    stand = await make_stand(loaded=(GRANITE,), context_length=256)
    policy = Options(extra={"contextOverflowPolicy": "stopAtLimit"})
    result = await stand.ask("sdk", "[[words=500]]", options=policy)
    assert result.finish_reason == "length"
    assert "the answer ends where the context was full" in result.notes
