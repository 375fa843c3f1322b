"""Tools that the client calls itself, in rounds."""

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def test_tools_in_rounds(hold, emulator):
    prompt = 'Sum [[tool=add {"a": 2, "b": 40}]] [[tool2=add {"a": 1, "b": 1}]]'
    found = hold("act", prompt=prompt)
    assert found["rounds"] == 3
    assert found["called"] == [["add", 2, 40], ["add", 1, 1]]
    assert found["predictions"] == [["toolCalls", 0], ["toolCalls", 1], ["eosFound", 2]]
    assert "The tool answered: 42. The tool answered: 2." in found["messages"][-1][1]
    assert [role for role, _ in found["messages"]] == ["assistant", "tool", "assistant", "tool", "assistant"]
    events = found["events"]
    assert [event for event in events if event[0] in ("round", "name")] == [
        ["round", 0], ["name", "add"], ["round", 1], ["name", "add"], ["round", 2],
    ]  # fmt: skip
    first = events[: events.index(["round", 1])]
    assert "".join(event[1] for event in first if event[0] == "arguments") == '{"a": 2, "b": 40}'
    [request] = [event[1] for event in first if event[0] == "end"]
    assert (request["name"], request["arguments"]) == ("add", {"a": 2, "b": 40})
    [begun] = [event[2] for event in first if event[0] == "start"]
    assert begun == request["id"]
    result = emulator.find("predict")[1].body["history"]["messages"][-1]
    assert result["role"] == "tool"
    assert result["content"][0]["toolCallId"] == request["id"]


def test_the_last_round_has_no_tools(hold, emulator):
    prompt = 'Sum [[tool=add {"a": 2, "b": 40}]] [[tool2=add {"a": 1, "b": 1}]]'
    found = hold("act", prompt=prompt, options={"maxPredictionRounds": 2})
    assert found["rounds"] == 2
    assert found["called"] == [["add", 2, 40]]
    assert found["predictions"][-1] == ["eosFound", 1]


def test_a_tool_that_was_not_offered_is_answered_by_the_client(hold):
    found = hold("act", prompt="[[tool=fly]]")
    assert found["called"] == []
    [failure] = [event for event in found["events"] if event[0] == "failure"]
    assert failure[2] == "Cannot find tool with name fly."
    assert found["predictions"][0][0] == "toolCalls"
    assert "Cannot find tool with name fly." in found["messages"][-1][1]
    replaced = hold("act", prompt="[[tool=fly]]", replacement="stay on the ground")
    assert "stay on the ground" in replaced["messages"][-1][1]


def test_arguments_that_do_not_fit(hold):
    found = hold("act", prompt='[[tool=add {"a": "two", "b": 1}]]')
    assert found["called"] == []
    [failure] = [event for event in found["events"] if event[0] == "failure"]
    assert "Failed to parse arguments" in failure[2]
    assert found["rounds"] == 2


def test_a_call_that_cannot_be_read_ends_it(start):
    found = start("unreadableCall").result()
    assert found["called"] == []
    [failure] = found["failures"]
    assert "Failed to parse the arguments of a call of add" in failure["message"]
    assert failure["rawContent"].startswith("add({")
    assert found["error"]["message"] == failure["message"]


def test_a_tool_that_raises_ends_it(hold, emulator):
    problem = hold("failingTool")
    assert problem["message"] == "the tool is broken"


def test_calls_that_are_only_reported(hold):
    prompt = 'Do [[tool=add {"a": 1}]] [[tool=add {"a": 2}]]'
    found = hold("rawTools", prompt=prompt, tools=[TOOL])
    assert [request["arguments"] for request in found["requests"]] == [{"a": 1}, {"a": 2}]
    assert len({request["id"] for request in found["requests"]}) == 2
    assert found["stats"]["stopReason"] == "toolCalls"
