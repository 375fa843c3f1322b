"""The right node: in subgraphs, in other workflows, after a reload, for several items."""

from __future__ import annotations

import uuid

ANSWER = ".lmbridge-answer"
INNER = "11111111-2222-4333-8444-555555555555"
OUTER = "22222222-2222-4333-8444-555555555555"


def _graph(nodes, **fields):
    return {"nodes": nodes, "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4,
            "last_node_id": 50, "last_link_id": 0} | fields  # fmt: skip


def _node(number, kind="LMBridge_Chat", **fields):
    return {"id": number, "type": kind, "pos": [60, 60], "size": [400, 700], "flags": {},
            "order": number, "mode": 0,
            "inputs": [], "outputs": [], "properties": {}} | fields  # fmt: skip


def _subgraph(identity, name, nodes):
    end = {"bounding": [0, 0, 120, 60]}
    return {"id": identity, "version": 1, "revision": 0, "config": {}, "name": name,
            "state": {"lastGroupId": 0, "lastNodeId": 50, "lastLinkId": 0, "lastRerouteId": 0},
            "inputNode": {"id": -10} | end, "outputNode": {"id": -20} | end, "inputs": [], "outputs": [],
            "widgets": [], "nodes": nodes, "groups": [], "links": [], "extra": {}}  # fmt: skip


def _nested():
    """Node 7 in a subgraph that is used twice (nodes 3 and 4), in a subgraph (node 12)."""
    inner = _subgraph(INNER, "Inner", [_node(7)])
    outer = _subgraph(OUTER, "Outer", [_node(3, INNER), _node(4, INNER, pos=[600, 60])])
    return _graph([_node(12, OUTER)], id=str(uuid.uuid4()), definitions={"subgraphs": [inner, outer]})


def _enter(page, path):
    page.page.evaluate("(path) => app.canvas.setGraph(nodeAt(path).subgraph)", path)


def test_an_answer_finds_its_node_in_nested_subgraphs(visit, renderer):
    page = visit(renderer)
    page.load(_nested())
    page.stream("12:3:7", {"text": "deep inside"})
    _enter(page, "12:3")
    page.wait_text(ANSWER, "deep inside")
    assert page.problems == []


def test_two_uses_of_one_subgraph_are_told_apart(visit, renderer):
    page = visit(renderer)
    page.load(_nested())
    _enter(page, "12:3")
    page.stream("12:3:7", {"text": "of the first"})
    page.stream("12:4:7", {"text": "of the second"})
    choice = page.page.locator(".lmbridge-choice")
    choice.wait_for(state="visible")
    labels = choice.locator("option").all_text_contents()
    assert labels == ["Outer #12 · Inner #3", "Outer #12 · Inner #4"]
    choice.select_option(index=1)
    page.wait_text(ANSWER, "of the second")
    choice.select_option(index=0)
    page.wait_text(ANSWER, "of the first")


def test_items_of_a_list_are_told_apart(visit):
    page = visit()
    node = page.chat()
    page.executed(
        node, {"text": "first"}, {"text": "second", "index": 4096}, {"text": "third", "index": 8192}
    )
    choice = page.page.locator(".lmbridge-choice")
    choice.wait_for(state="visible")
    assert choice.locator("option").all_text_contents() == ["Item 1", "Item 2", "Item 3"]
    choice.select_option(index=1)
    page.wait_text(ANSWER, "second")
    page.executed(node, {"text": "alone"}, prompt="p2")
    page.wait_text(ANSWER, "alone")
    choice.wait_for(state="hidden")


def test_an_answer_for_another_workflow_waits_for_it(visit, renderer):
    page = visit(renderer)
    first = _graph([_node(5)], id=str(uuid.uuid4()))
    second = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(first, "first")
    update = page.update("5", 0, text="for the first")
    page.load(second, "second")
    page.double.send("lmbridge.update", update)
    page.stream("5", {"text": "for the second"}, prompt="p2")
    page.wait_text(ANSWER, "for the second")
    assert "for the first" not in page.text(ANSWER)
    page.switch("first")
    page.wait_text(ANSWER, "for the first")


def test_a_cached_answer_of_another_workflow_is_not_shown_in_this_one(visit):
    page = visit()
    first = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(first, "first")
    prompt = str(uuid.uuid4())
    page.double.prompts.append(
        {"prompt_id": prompt, "extra_data": {"extra_pnginfo": {"workflow": {"id": first["id"]}}}}
    )
    page.load(_graph([_node(5)], id=str(uuid.uuid4())), "second")
    page.executed("5", {"text": "of the first"}, prompt=prompt)
    page.executed("5", {"text": "of the second"}, prompt="p2")
    page.wait_text(ANSWER, "of the second")
    page.switch("first")
    page.wait_text(ANSWER, "of the first")


def test_another_node_with_the_same_id_is_left_alone(visit):
    page = visit()
    page.load(_graph([_node(5, "PreviewAny"), _node(6)], id=str(uuid.uuid4())))
    page.stream("5", {"text": "not here"})
    page.stream("77", {"text": "nor there"})
    page.stream("6", {"text": "but here"})
    page.wait_text(ANSWER, "but here")
    assert page.problems == []


def test_a_node_made_by_expansion_is_shown_at_its_maker(visit):
    page = visit()
    node = page.chat()
    update = page.update("5.0.0.1", 0, text="from a loop") | {"display_node": node}
    page.double.send("lmbridge.update", update)
    page.wait_text(ANSWER, "from a loop")


def test_answers_survive_a_reload(visit, renderer):
    page = visit(renderer)
    workflow = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(workflow)
    page.executed("5", {"text": "remember me", "model": "qwen"})
    page.wait_text(ANSWER, "remember me")
    page.reload()
    page.load(workflow)
    page.wait_text(ANSWER, "remember me")
    page.wait_text(".lmbridge-status", "qwen")


def test_a_stream_goes_on_after_a_reload(visit):
    page = visit()
    page.double.running = [[1, "p1"]]
    workflow = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(workflow)
    page.stream("5", {"text": "one "}, {"text": "two "})
    page.wait_text(ANSWER, "two ")
    page.reload()
    page.load(workflow)
    page.wait_text(ANSWER, "one two ")
    page.stream("5", {"text": "three "}, first=2)
    page.wait_text(ANSWER, "one two three ")


def test_a_workflow_without_an_id_is_known_by_its_place(visit):
    page = visit()
    page.double.running = [[1, "p1"]]
    node = page.chat()  # on an emptied graph, which has no id
    workflow = page.saved()
    page.stream(node, {"text": "one "})
    page.wait_text(ANSWER, "one ")
    page.reload()
    page.page.evaluate(
        "(w) => app.loadGraphData(w, true, true, app.extensionManager.workflow.activeWorkflow)", workflow
    )
    page.wait_text(ANSWER, "one ")
    later = page.update(node, 1, text="two") | {"workflow_id": workflow["id"]}
    page.double.send("lmbridge.update", later)
    page.wait_text(ANSWER, "one two")


def test_what_ended_during_a_reload_gets_its_full_text(visit):
    page = visit()
    workflow = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(workflow)
    page.stream("5", {"text": "one "})
    page.wait_text(ANSWER, "one ")
    page.double.history = {"p1": {"outputs": {"5": {"lmbridge": [{"text": "one and all", "index": 0}]}}}}
    page.reload()
    page.load(workflow)
    page.wait_text(ANSWER, "one and all")


def test_what_was_lost_during_a_reload_is_shown_as_stopped(visit):
    page = visit()
    workflow = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(workflow)
    page.stream("5", {"text": "one "})
    page.wait_text(ANSWER, "one ")
    page.reload()
    page.load(workflow)
    page.wait_text(".lmbridge-status", "Stopped")
    assert page.text(ANSWER) == "one "


def test_nothing_is_remembered_if_not_wished(visit):
    page = visit(**{"lmbridge.Answers.Remember": False})
    workflow = _graph([_node(5)], id=str(uuid.uuid4()))
    page.load(workflow)
    page.executed("5", {"text": "forget me"})
    page.wait_text(ANSWER, "forget me")
    assert "forget me" not in page.page.evaluate("() => JSON.stringify(Object.entries(sessionStorage))")


def test_what_is_remembered_is_bounded(visit):
    page = visit()
    node = page.chat()
    for number in range(30):
        page.executed(node, {"text": f"{number} " + "x" * 150_000, "index": number}, prompt=f"p{number}")
    page.wait_text(ANSWER, "29 ")
    kept = "() => Object.entries(sessionStorage).filter(([key]) => key.startsWith('lmbridge'))"
    size = page.page.evaluate(f"{kept}.reduce((sum, [, value]) => sum + value.length, 0)")
    assert 100_000 < size < 1_700_000


def test_a_full_storage_is_no_error(visit):
    page = visit()
    page.page.evaluate(
        "() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }; }"
    )
    node = page.chat()
    page.executed(node, {"text": "shown all the same"})
    page.wait_text(ANSWER, "shown all the same")
    assert page.problems == []
