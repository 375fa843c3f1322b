"""The chat node in the real ComfyUI."""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

Chat = Callable[..., dict[str, Any]]


async def test_an_answer_streams_and_comes_out(page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("[[think=Let me see.]][[say=Hello there]]", model="qwen/qwen3-4b"),
        "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 1]}},
        "4": {"class_type": "Test_Show", "inputs": {"value": ["1", 3]}},
    }
    run = await page.run(graph, extra_data={"extra_pnginfo": {"workflow": {"id": "w-1"}}})
    assert run.end == "execution_success"
    assert run.shown("2") == ["Hello there"]
    assert run.shown("3") == ["Let me see."]
    stats = json.loads(run.shown("4")[0])
    assert stats["connection"] == "lmstudio-rest"
    assert stats["model"] == "qwen/qwen3-4b"
    assert stats["usage"]["completion_tokens"] > 0
    updates = run.updates()
    assert [update["seq"] for update in updates] == list(range(len(updates)))
    assert "".join(update["text"] for update in updates) == "Hello there"
    assert "".join(update["reasoning"] for update in updates) == "Let me see."
    assert updates[-1]["phase"] == "done"
    assert {"loading model", "reading prompt"} & {update["phase"] for update in updates}
    assert {update["workflow_id"] for update in updates} == {"w-1"}
    answer = run.answers()[0]
    assert (answer["text"], answer["reasoning"]) == ("Hello there", "Let me see.")
    assert answer["model"] == "qwen/qwen3-4b"


async def test_updates_come_at_most_ten_times_a_second(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat("[[words=200]]")})
    updates = run.updates()
    spans = [after["elapsed"] - before["elapsed"] for before, after in itertools.pairwise(updates)]
    assert all(span >= 0.09 for span in spans[:-1])  # the last one tells the end, and does not wait


async def test_the_seed_is_sent_and_what_a_server_lacks_is_noted(page: Any, chat: Chat, comfy: Any) -> None:
    run = await page.run({"1": chat(seed=77)})
    assert any("seed" in note for note in run.answers()[0]["notes"])  # REST v1 has none
    run = await page.run({"1": chat(seed=77, connection="openai-compat")})
    assert comfy.emulator.call(lambda emulator: emulator.last.body["seed"]) == 77
    assert run.answers()[0]["stats"]["settings"]["seed"] == 77


async def test_the_progress_bar_moves(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat("[[words=60]]", max_tokens=100)})
    states = [data["nodes"]["1"] for data in run.of("progress_state") if "1" in data["nodes"]]
    assert any(0 < state["value"] < state["max"] == 1.0 for state in states)  # loading, or reading
    assert any(0 < state["value"] < state["max"] == 100.0 for state in states)  # tokens


async def test_without_our_script_comfyui_shows_the_text(page: Any, chat: Chat) -> None:
    await page.run({"1": chat("[[say=plain]]", seed=1)})
    assert any(b"plain" in text for text in page.texts)
    page.texts.clear()
    await page.get(f"/lmbridge/session?client={page.client}")
    await page.run({"1": chat("[[say=plain]]", seed=2)})
    assert not page.texts


async def test_only_the_page_that_queued_is_told(comfy: Any, page: Any, chat: Chat) -> None:
    async with comfy.page() as other:
        run = await page.run({"1": chat(seed=3)})
        assert run.updates()
        # Whatever was sent to the other page came before the answer to its own request.
        theirs = await other.run(
            {
                "9": {"class_type": "Test_Show", "inputs": {"value": ["8", 0]}},
                "8": {"class_type": "Test_Texts", "inputs": {"lines": "x"}},
            }
        )
        assert not theirs.of("lmbridge.update")


async def test_a_stream_goes_on_while_another_node_blocks_the_loop(page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("[[words=150]]", seed=4),
        "2": {"class_type": "Test_Block", "inputs": {"seconds": 1.5}},
    }
    run = await page.run(graph)
    assert run.end == "execution_success"
    blocked = run.of("test.block")
    began, ended = blocked[0]["began"], blocked[1]["ended"]
    offset = time.time() - time.monotonic()
    during = [
        data
        for when, name, data in run.messages
        if name == "lmbridge.update" and began < when + offset < ended
    ]
    # Either order of the two nodes is possible: ComfyUI takes them from a set.
    first = run.of("executing")[0]["node"]
    assert first == "2" or len(during) >= 5


async def test_the_same_prompt_again_is_not_asked_again(page: Any, chat: Chat, comfy: Any) -> None:
    node = chat("[[words=6]]", seed=5)
    first = await page.run({"1": node})
    asked = comfy.emulator.call(lambda emulator: len(emulator.find("/api/v1/chat")))
    again = await page.run({"1": node})
    assert comfy.emulator.call(lambda emulator: len(emulator.find("/api/v1/chat"))) == asked
    assert not again.updates()
    assert again.answers() == first.answers()  # the display is filled from here
    changed = await page.run({"1": {**node, "inputs": {**node["inputs"], "seed": 6}}})
    assert changed.updates()


async def test_always_new_asks_each_time(page: Any, chat: Chat, comfy: Any) -> None:
    node = chat("[[words=6]]", seed=7, rerun="always new")
    await page.run({"1": node})
    await page.run({"1": node})
    assert comfy.emulator.call(lambda emulator: len(emulator.find("/api/v1/chat"))) == 2


async def test_a_kept_answer_needs_no_server(page: Any, chat: Chat) -> None:
    kept = json.dumps({"text": "the one I liked", "model": "m", "connection": "gone"})
    graph = {
        "1": chat(connection="gone", rerun="keep this answer", kept_answer=kept, image=["2", 0]),
        "2": {"class_type": "Test_Picture", "inputs": {"count": 1, "name": "kept"}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
    }
    run = await page.run(graph)
    assert run.shown("3") == ["the one I liked"]
    assert "kept" not in await page.get("/test/counts")  # the picture was not needed, so it was not made


async def test_keeping_without_an_answer_asks_once(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat("[[say=first]]", rerun="keep this answer", seed=8)})
    assert run.answers()[0]["text"] == "first"


async def test_two_equal_nodes_each_ask(page: Any, chat: Chat, comfy: Any) -> None:
    run = await page.run({"1": chat(seed=9), "2": chat(seed=9)})
    assert run.updates("1")
    assert run.updates("2")
    assert comfy.emulator.call(lambda emulator: len(emulator.find("/api/v1/chat"))) == 2


async def test_an_unconnected_image_never_fails(page: Any, chat: Chat) -> None:
    assert (await page.run({"1": chat(seed=10)})).end == "execution_success"


async def test_a_batch_goes_in_one_call_or_in_one_for_each_picture(page: Any, chat: Chat, comfy: Any) -> None:
    def graph(mode: str) -> dict[str, Any]:
        return {
            "1": chat("What is it?", model="qwen3-vl-4b", image=["2", 0], image_mode=mode),
            "2": {"class_type": "Test_Picture", "inputs": {"count": 3, "name": mode}},
            "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
        }

    run = await page.run(graph("one call with all images"))
    (text,) = run.shown("3")
    assert all(f"Picture {number}" in text for number in (1, 2, 3))
    comfy.emulator.call(lambda emulator: emulator.forget())
    run = await page.run(graph("one call per image"))
    texts = run.shown("3")
    assert len(texts) == 3
    assert ["red" in texts[0], "green" in texts[1], "blue" in texts[2]] == [True, True, True]
    assert {update["index"] for update in run.updates()} == {0, 1, 2}
    assert [answer["index"] for answer in run.answers()] == [0, 1, 2]


async def test_an_empty_batch_is_said_plainly(page: Any, chat: Chat) -> None:
    graph = {
        "1": chat("What is it?", image=["2", 0]),
        "2": {"class_type": "Test_Picture", "inputs": {"count": 0, "name": "empty"}},
    }
    assert (await page.run(graph)).error.startswith("The image holds no picture.")


async def test_a_list_of_prompts_gives_a_list_of_answers(page: Any, chat: Chat) -> None:
    graph = {
        "1": chat(["2", 0], seed=11),
        "2": {"class_type": "Test_Texts", "inputs": {"lines": "[[say=a]]\n[[say=b]]\n[[say=c]]"}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
    }
    run = await page.run(graph)
    assert run.shown("3") == ["a", "b", "c"]
    assert {update["index"] for update in run.updates()} == {0, 1, 2}


async def test_presets_and_the_options_node_reach_the_server(page: Any, chat: Chat, comfy: Any) -> None:
    graph = {
        "1": chat(connection="openai-compat", preset="creative", options=["2", 0], seed=12, max_tokens=0),
        "2": {"class_type": "LMBridge_Options", "inputs": {"top_k": 7, "stop": "END\nSTOP"}},
    }
    run = await page.run(graph)
    assert run.end == "execution_success"
    body = comfy.emulator.call(lambda emulator: emulator.last.body)
    assert body["temperature"] == 0.9
    assert body["max_tokens"] == 2048
    assert body["stop"] == ["END", "STOP"]
    settings = run.answers()[0]["stats"]["settings"]
    assert settings["top_k"] == 7


async def test_a_value_that_is_in_no_list_is_tried(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat(model="no/such-model", seed=13)})
    assert run.end == "execution_error"
    assert "no/such-model" in run.error
    run = await page.run({"1": chat(connection="nobody", seed=13)})
    assert "nobody" in run.error


async def test_an_error_is_one_plain_sentence_with_a_hint(page: Any, chat: Chat) -> None:
    run = await page.run({"1": chat(connection="gone")})
    assert run.end == "execution_error"
    assert run.error.startswith("gone: ")
    assert run.error.endswith("?")
    assert "\n" not in run.error
    assert run.updates()[-1]["phase"] == "failed"
    assert run.updates()[-1]["message"] == run.error
    assert not run.of("executed")
    assert any(item["connection"] == "gone" for item in (await page.get("/lmbridge/errors"))["errors"])


async def test_the_fallback_text_is_given_if_the_user_says_so_and_not_kept(page: Any, chat: Chat) -> None:
    node = chat(connection="gone", on_error="use fallback text", fallback_text="a cat", seed=14)
    graph = {"1": node, "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}}}
    run = await page.run(graph)
    assert run.end == "execution_success"
    assert run.shown("2") == ["a cat"]
    assert run.answers()[0]["error"].startswith("gone: ")
    again = await page.run(graph)
    assert again.updates()  # it tried again
