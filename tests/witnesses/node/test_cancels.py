"""Cancels in every phase, and sockets that are dropped."""

import pytest

TEXT, THINKING, SLOW = "ibm/granite-4-micro", "qwen/qwen3-4b", "meta/llama-3.3-70b"


@pytest.mark.parametrize("explicit", [False, True], ids=["on-request", "explicit"])
def test_a_load(start, emulator, explicit):
    gate = emulator.hold("loading", after=20)
    talk = start("cancelLoad", key=SLOW, explicit=explicit)
    emulator.reached(gate)
    talk.say("cancel")
    record = emulator.wait_for(lambda e: e.last.cancelled and e.last)
    assert record.frames == [{"type": "cancel"}]
    talk.say("look")
    found = talk.result()
    assert found["error"]["message"] == "enough"
    assert found["loaded"] == []


@pytest.mark.parametrize("signal", [False, True], ids=["cancel", "signal"])
@pytest.mark.parametrize(
    ("phase", "kinds"),
    [
        ("reasoning", ["reasoningStartTag", "reasoning"]),
        ("answering", ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]),
    ],
)
def test_reasoning_and_answer(start, emulator, phase, kinds, signal):
    gate = emulator.hold(phase, after=5)
    talk = start("cancelPrediction", key=THINKING, prompt="[[thoughts=9]] [[words=1000]]", signal=signal)
    emulator.reached(gate)
    talk.say("cancel")
    talk.told("cancelled")
    found = talk.result()
    assert found["stats"]["stopReason"] == "userStopped"
    assert found["kinds"] == kinds
    [record] = emulator.find("predict")
    assert (record.cancelled, record.frames) == (True, [{"type": "cancel"}])
    assert found["stats"]["predictedTokensCount"] == record.tokens
    assert emulator.call(lambda e: e.instances[0].running) == set()
    assert talk.logs == []


def test_the_prompt_is_read_to_its_end(start, emulator):
    gate = emulator.hold("prompt", after=1)
    talk = start("cancelPrediction", prompt="Hi")
    emulator.reached(gate)
    talk.say("cancel")
    talk.told("cancelled")
    record = emulator.wait_for(lambda e: e.find("predict")[0].frames and e.find("predict")[0])
    assert record.state == "open"
    emulator.release()
    found = talk.result()
    assert found["stats"]["stopReason"] == "userStopped"
    assert (found["content"], record.tokens) == ("", 0)


def test_a_prediction_that_waits_for_a_slot(start, emulator):
    gate = emulator.hold("queued")
    talk = start("cancelPrediction", prompt="Hi")
    emulator.reached(gate)
    talk.say("cancel")
    talk.told("cancelled")
    assert talk.result()["stats"]["stopReason"] == "userStopped"
    assert emulator.find("predict")[0].cancelled


def test_before_the_first_word(start, emulator):
    found = start("cancelAtOnce").result()
    assert found["stats"]["stopReason"] == "userStopped"
    assert emulator.find("predict")[0].frames == [{"type": "cancel"}]


def test_a_loop_that_is_left_cancels_nothing(start, emulator):
    emulator.hold("answering", after=10)
    talk = start("leaveStream")
    talk.told("left")
    emulator.release()
    record = emulator.wait_for(lambda e: e.find("predict")[0].finished and e.find("predict")[0])
    assert (record.frames, record.stop_reason) == ([], "eosFound")
    talk.say("look")
    assert talk.result() == {"pieces": 3}


def test_a_round_of_tools(start, emulator):
    gate = emulator.hold("answering", after=3)
    talk = start("cancelAct", prompt='[[tool=add {"a": 1234567}]]')
    emulator.reached(gate)
    talk.say("cancel")
    record = emulator.wait_for(lambda e: e.find("predict")[0].cancelled and e.find("predict")[0])
    assert record.frames == [{"type": "cancel"}]
    assert talk.result() == {"rounds": 1, "reasons": ["userStopped"]}


def test_the_same_client_goes_on_after_a_lost_connection(start, emulator):
    gate = emulator.hold("answering", after=3)
    talk = start("reconnect")
    emulator.reached(gate)
    emulator.call(lambda e: e.drop_sockets())
    emulator.wait_for(lambda e: e.find("predict")[0].state != "open")
    emulator.release()
    found = talk.result()
    assert "WebSocket" in found["error"]["message"] or "socket" in found["error"]["message"]
    assert found["content"] == "back"
    assert len(emulator.find("WS /llm")) == 2


def test_a_client_notices_that_the_server_is_gone(start, emulator):
    talk = start("alive")
    talk.told("connected")
    emulator.call(lambda e: e.drop_sockets())
    assert talk.result() == "gone"
    [record] = emulator.find("alive")
    assert record.disconnected
