"""The answer on the node: streamed, ordered, coalesced, finished, harmless, in both renderers."""

from __future__ import annotations

from itertools import pairwise

ANSWER = ".lmbridge-answer"
STATUS = ".lmbridge-status"


def test_an_answer_streams_onto_the_node(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.stream(node, {"phase": "loading model", "fraction": 0.43})
    page.wait_text(STATUS, "Loading the model 43 %")
    page.stream(node, {"phase": "reading prompt", "fraction": 0.8}, first=1)
    page.wait_text(STATUS, "Reading the prompt 80 %")
    page.stream(node, {"phase": "reasoning", "reasoning": "Let me see."}, first=2)
    page.wait_text("summary", "Thinking · 11 characters")
    assert page.text(".lmbridge-thought") == ""  # folded
    page.stream(
        node, {"text": "A light"}, {"text": "house.", "tokens": 7, "tokens_per_second": 35.2}, first=3
    )
    page.wait_text(ANSWER, "A lighthouse.")
    page.wait_text(STATUS, "Answering · 7 tokens · 35 tokens/s")
    page.page.locator("summary").click()
    page.wait_text(".lmbridge-thought", "Let me see.")
    assert page.problems == []


def test_the_full_text_comes_with_executed(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.stream(node, {"text": "Half of"})
    page.wait_text(ANSWER, "Half of")
    page.executed(
        node,
        {
            "text": "Half of it and the rest",
            "model": "qwen",
            "notes": ["seed was left out"],
            "stats": {"tokens_per_second": 20, "usage": {"completion_tokens": 9}},
        },
    )
    page.wait_text(ANSWER, "Half of it and the rest")
    page.wait_text(STATUS, "qwen")
    page.wait_text(".lmbridge-notes", "seed was left out")
    assert page.page.locator(".lmbridge-stop").is_hidden()


def test_a_cached_answer_is_shown_without_any_update(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.executed(node, {"text": "from the cache"}, prompt="never-heard-of")
    page.wait_text(ANSWER, "from the cache")


def test_updates_out_of_order_are_put_in_order(visit):
    page = visit()
    node = page.chat()
    numbered = [page.update(node, seq, text=f"{seq} ") for seq in (0, 3, 1, 2, 2, 5, 4)]
    page.double.send_many([("lmbridge.update", data) for data in numbered])
    page.wait_text(ANSWER, "5 ")
    assert page.text(ANSWER) == "0 1 2 3 4 5 "


def test_a_lost_update_is_a_gap_that_the_full_text_closes(visit):
    page = visit()
    node = page.chat()
    page.stream(node, {"text": "one "})
    page.stream(node, {"text": "three "}, first=2)
    page.wait_text(ANSWER, "one three ")
    page.wait_text(".lmbridge-hint", "not received")
    page.executed(node, {"text": "one two three "})
    page.wait_text(ANSWER, "one two three ")
    page.wait_text(".lmbridge-hint", "")
    assert page.text(".lmbridge-hint") == ""


def test_a_new_run_clears_the_last_one(visit):
    page = visit()
    node = page.chat()
    page.stream(node, {"text": "old"}, {"phase": "done"})
    page.wait_text(ANSWER, "old")
    page.stream(node, {"phase": "connecting"}, prompt="p2")
    page.wait_text(STATUS, "Connecting")
    assert page.text(ANSWER) == ""


def test_ten_updates_a_second_at_most_however_fast_the_tokens(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.stream(node, {"text": "go "})
    page.wait_text(ANSWER, "go")
    page.page.evaluate(
        """() => {
          window.changes = [];
          const watch = new MutationObserver(() => changes.push(performance.now()));
          watch.observe(document.querySelector(".lmbridge-panel"),
            { subtree: true, childList: true, characterData: true, attributes: true });
        }"""
    )
    updates = [page.update(node, n, text=f"t{n} ") for n in range(1, 3000)]
    page.double.send_many([("lmbridge.update", data) for data in updates])
    page.wait_text(ANSWER, "t2999 ")
    times = page.page.evaluate("() => changes")
    assert times
    assert all(later - earlier >= 90 for earlier, later in pairwise(times)), times
    assert page.text(ANSWER) == "go " + "".join(f"t{n} " for n in range(1, 3000))


def test_hostile_text_is_text(visit, renderer):
    page = visit(renderer, **{"lmbridge.Answers.Formatted": True})
    node = page.chat()
    page.page.evaluate("() => { window.asked = []; window.hacked = false; }")
    page.page.on(
        "request", lambda request: page.problems.append(request.url) if "evil" in request.url else None
    )
    hostile = (
        "<img src='http://evil.invalid/a' onerror='hacked=true'><script>hacked=true</script>"
        "<style>*{display:none}</style>"
        "![x](http://evil.invalid/b) [click](javascript:hacked=true) \u001b[31mred\u202egnp.exe\u0000 "
        "<svg onload=hacked=true><iframe src=http://evil.invalid/c></iframe>"
        "<a href=javascript:hacked=true>a</a>"
    )
    page.stream(node, {"text": hostile, "reasoning": hostile})
    page.wait_text(ANSWER, "gnp.exe")
    assert "<script>hacked=true</script>" in page.text(ANSWER)
    assert "\u001b" not in page.text(ANSWER)
    page.executed(node, {"text": hostile, "reasoning": hostile, "notes": [hostile], "model": hostile})
    page.page.wait_for_selector(".lmbridge-formatted")
    page.page.locator("summary").click()
    page.page.wait_for_timeout(300)
    inside = page.page.evaluate(
        """() => [...document.querySelectorAll(".lmbridge-panel *")].filter((each) =>
          /^(script|img|iframe|style|svg|link|object|video)$/i.test(each.tagName) ||
          [...each.attributes].some((a) => /^on/.test(a.name) || /^javascript:/.test(a.value))).length"""
    )
    assert inside == 0
    assert page.page.evaluate("() => hacked") is False
    assert page.problems == []


def test_a_megabyte_is_shown_and_scrolls_inside_the_node(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    before = page.page.locator(".lmbridge-panel").bounding_box()
    page.executed(node, {"text": "word " * 200_000 + "end"})
    page.page.wait_for_function(f"() => document.querySelector('{ANSWER}').textContent.endsWith('end')")
    heights = "({ clientHeight, scrollHeight }) => [clientHeight, scrollHeight]"
    seen, whole = page.page.locator(".lmbridge-body").evaluate(heights)
    assert whole > 10 * seen
    after = page.page.locator(".lmbridge-panel").bounding_box()
    assert after["height"] == before["height"]


def test_the_wheel_scrolls_the_answer_and_not_the_canvas(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.executed(node, {"text": "line\n" * 200})
    page.wait_text(ANSWER, "line")
    body = page.page.locator(".lmbridge-body")
    before = page.page.evaluate("() => [app.canvas.ds.scale, ...app.canvas.ds.offset]")
    body.click()  # in Nodes 2.0 the wheel belongs to what has the focus, else to the canvas
    page.page.mouse.wheel(0, 120)
    page.page.wait_for_function("() => document.querySelector('.lmbridge-body').scrollTop > 0")
    assert page.page.evaluate("() => [app.canvas.ds.scale, ...app.canvas.ds.offset]") == before


def test_selected_text_is_copied_and_not_the_node(visit, renderer):
    page = visit(renderer)
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    node = page.chat()
    page.executed(node, {"text": "select me"})
    page.wait_text(ANSWER, "select me")
    page.page.locator(".lmbridge-body").click()
    page.page.evaluate("() => getSelection().selectAllChildren(document.querySelector('.lmbridge-answer'))")
    page.page.keyboard.press("Control+c")
    page.page.wait_for_function("async () => (await navigator.clipboard.readText()) === 'select me'")


def test_a_finished_answer_is_formatted_if_wished(visit):
    page = visit(**{"lmbridge.Answers.Formatted": True})
    node = page.chat()
    page.executed(node, {"text": "# Title\n\n* **one**\n* two\n\n[site](https://example.org/)"})
    page.page.wait_for_selector(f"{ANSWER} h1")
    assert page.page.locator(f"{ANSWER} li").count() == 2
    assert page.page.locator(f"{ANSWER} a").get_attribute("rel") == "noopener noreferrer nofollow"


def test_an_error_is_a_sentence_on_the_node(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.stream(
        node,
        {"phase": "connecting"},
        {"phase": "failed", "message": "Nobody answers at 127.0.0.1:1234. Start the server."},
    )
    page.wait_text(STATUS, "Nobody answers at 127.0.0.1:1234.")
    assert page.text(ANSWER) == ""
    assert page.page.locator(".lmbridge-stop").is_hidden()


def test_comfyui_s_own_word_ends_an_answer_whose_last_update_is_lost(visit):
    page = visit()
    node = page.chat()
    page.stream(node, {"text": "half"})
    page.wait_text(STATUS, "Answering")
    page.double.send(
        "execution_interrupted",
        {"prompt_id": "p1", "node_id": node, "node_type": "LMBridge_Chat", "executed": []},
    )
    page.wait_text(STATUS, "Stopped")


def test_stop_posts_with_the_token_of_this_start(visit, renderer):
    page = visit(renderer)
    node = page.chat()
    page.stream(node, {"text": "on and on"})
    page.page.locator(".lmbridge-stop").click()
    page.wait_text(STATUS, "Stopping")
    wanted = ("stop", {"prompt_id": "p1", "node": node}, 200)
    _until(page, lambda: wanted in page.double.posted)


def test_stop_works_after_the_server_was_started_again(visit):
    page = visit()
    node = page.chat()
    page.stream(node, {"text": "on and on"})
    page.page.locator(".lmbridge-stop").click()
    _until(page, lambda: len(page.double.posted) == 1)
    page.double.token = "another"
    page.stream(node, {"text": "again"}, prompt="p2")
    page.wait_text(ANSWER, "again")
    page.page.locator(".lmbridge-stop").click()
    _until(page, lambda: [status for *_, status in page.double.posted] == [200, 403, 200])


def test_copy_takes_the_answer_as_it_is(visit, renderer):
    page = visit(renderer)
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    node = page.chat()
    page.executed(node, {"text": "line one\n<b>line two</b>", "reasoning": "no"})
    page.page.locator(".lmbridge-foot button", has_text="Copy").click()
    page.wait_text(".lmbridge-foot", "Copied")
    assert page.page.evaluate("() => navigator.clipboard.readText()") == "line one\n<b>line two</b>"


def test_nothing_of_it_is_saved_in_the_workflow(visit):
    page = visit()
    node = page.chat()
    before = page.saved()["nodes"]
    page.stream(node, {"text": "SECRET-CANARY", "reasoning": "SECRET-CANARY"})
    page.executed(node, {"text": "SECRET-CANARY", "reasoning": "SECRET-CANARY"})
    page.wait_text(STATUS, "m")
    assert page.saved()["nodes"] == before
    assert "SECRET-CANARY" not in str(page.prompt_inputs(node))
    assert not any(name.startswith("lmbridge") for name in page.prompt_inputs(node))


def _until(page, condition, seconds=20):
    for _ in range(seconds * 20):
        if condition():
            return
        page.page.wait_for_timeout(50)
    raise AssertionError(page.double.posted)
