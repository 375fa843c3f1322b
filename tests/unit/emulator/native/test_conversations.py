"""Conversations that `/api/v1/chat` stores (documented in rest/stateful-chats)."""

TEXT, VISION, THINKING = "ibm/granite-4-micro", "qwen3-vl-4b", "qwen/qwen3-4b"


async def say(http, text, previous=None, **more):
    body = {"model": TEXT, "input": text, **more}
    if previous is not None:
        body["previous_response_id"] = previous["response_id"]
    status, answer = await http.post("/api/v1/chat", body)
    assert status == 200, answer
    return answer


def text_of(answer):
    return answer["output"][-1]["content"]


async def test_two_branches_from_one_parent_do_not_see_each_other(http):
    root = await say(http, "[[say=root]]")
    left = await say(http, "[[say=left]]", root)
    right = await say(http, "[[say=right]]", root)
    assert len({answer["response_id"] for answer in (root, left, right)}) == 3
    for branch, name in ((left, "left"), (right, "right")):
        leaf = text_of(await say(http, "And?", branch))
        assert f"the last: “{name}”" in leaf
        assert "2 assistant and 2 user" in leaf
    assert "the last: “root”" in text_of(await say(http, "And?", root))


async def test_a_streamed_chat_can_be_continued(http):
    events = await http.events("/api/v1/chat", {"model": TEXT, "input": "[[say=one]]", "stream": True})
    assert "the last: “one”" in text_of(await say(http, "And?", events[-1][1]["result"]))


async def test_another_model_can_continue(http):
    first = await say(http, "[[say=one]]")
    assert "the last: “one”" in text_of(await say(http, "And?", first, model=THINKING))


async def test_pictures_are_remembered(http, picture, data_url):
    items = [{"type": "image", "data_url": data_url(picture((11, 5)))}]
    first = await say(http, items, model=VISION)
    assert "Picture 1 is 11x5" in text_of(await say(http, "Again?", first, model=VISION))


async def test_a_model_without_eyes_cannot_continue_a_conversation_with_pictures(http, picture, data_url):
    items = [{"type": "image", "data_url": data_url(picture((11, 5)))}]
    first = await say(http, items, model=VISION)
    body = {"model": TEXT, "input": "Again?", "previous_response_id": first["response_id"]}
    status, answer = await http.post("/api/v1/chat", body)
    assert (status, answer["error"]["message"][:29]) == (400, "Model does not support images")


async def test_reasoning_is_not_part_of_the_conversation(http):
    first = await say(http, "[[think=secret]][[say=one]]", model=THINKING)
    second = await say(http, "And?", first, model=THINKING, reasoning="off")
    assert "secret" not in str(second["output"])


async def test_what_is_not_stored_has_no_id(http):
    assert "response_id" not in await say(http, "Hi", store=False)
    continued = await say(http, "And?", await say(http, "Hi"), store=False)
    assert "response_id" not in continued
