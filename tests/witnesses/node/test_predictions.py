"""Answers: streams, reasoning, pictures, structure, limits."""

import base64

TEXT, THINKING, VISION = "ibm/granite-4-micro", "qwen/qwen3-4b", "qwen3-vl-4b"


def test_a_stream_with_reasoning_options_and_progress(hold, sdk, emulator):
    history = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello"}]
    options = {
        "temperature": 0.3,
        "topKSampling": 11,
        "topPSampling": 0.8,
        "minPSampling": 0.1,
        "maxTokens": 300,
        "repeatPenalty": 1.5,
        "contextOverflowPolicy": "rollingWindow",
    }
    found = hold("respond", key=THINKING, history=history, options=options)
    assert found["kinds"] == ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"]
    pieces = found["pieces"]
    assert (pieces["reasoningStartTag"], pieces["reasoningEndTag"]) == ("<think>", "</think>")
    assert found["structural"] == "<think></think>"
    assert found["reasoningContent"] == pieces["reasoning"] != ""
    assert found["nonReasoningContent"] == pieces["none"]
    assert found["content"] == f"<think>{pieces['reasoning']}</think>{pieces['none']}"
    wanted = ("temperature=0.3", "top_k=11", "top_p=0.8", "min_p=0.1", "max_tokens=300", "repeat_penalty=1.5")
    assert [part for part in (*wanted, "Be kind", "Hello") if part not in pieces["none"]] == []
    fractions = [fraction for fraction, _ in found["progress"]]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    if sdk == "2":
        total = found["stats"]["promptTokensCount"]
        assert {details["totalPromptTokenCount"] for _, details in found["progress"]} == {total}
        assert found["progress"][-1][1]["processedPromptTokenCount"] == total
    assert found["calls"] == ["first", "assistant"]
    stats = found["stats"]
    assert stats["stopReason"] == "eosFound"
    assert stats["totalTokensCount"] == stats["promptTokensCount"] + stats["predictedTokensCount"]
    assert found["modelInfo"]["identifier"] == THINKING
    assert emulator.find("predict")[0].tokens == stats["predictedTokensCount"]


def test_options_that_only_this_client_has(hold, sdk, emulator):
    options = {"enableThinking": False, "presencePenalty": 0.25} if sdk == "2" else {}
    found = hold("respond", key=THINKING, history="Hello", options={"temperature": 0.1, **options})
    assert found["kinds"] == (["none"] if sdk == "2" else found["kinds"])
    if sdk == "2":
        assert "presence_penalty=0.25" in found["content"]
        assert "thinking=False" in found["content"]


def test_a_conversation_of_several_turns(hold):
    history = [
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "An answer"},
        {"role": "user", "content": "Second"},
    ]
    found = hold("respond", key=TEXT, history=history)
    assert "Before that came 1 assistant and 1 user messages, the last: “An answer”" in found["content"]


def test_reasoning_that_is_not_parsed(hold):
    options = {"reasoningParsing": {"enabled": False, "startString": "<think>", "endString": "</think>"}}
    found = hold("respond", key=THINKING, history="Hello", options=options)
    assert found["kinds"] == ["none"]
    assert found["content"].startswith("<think>")


def test_pictures_from_75_bytes_to_10_megabytes(hold, emulator, picture, large_picture, tmp_path):
    small = picture((1, 1), "blue")
    assert len(small) <= 75
    assert len(large_picture) > 10_000_000
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture((64, 48), "red", "JPEG"))
    encoded = [
        [name, base64.b64encode(data).decode()] for name, data in (("a.png", small), ("b.png", large_picture))
    ]
    found = hold("pictures", key=VISION, pictures=encoded, path=str(path))
    assert [entry["type"] for entry in found["files"]] == ["image"] * 3
    assert [entry["sizeBytes"] for entry in found["files"]] == [
        len(small),
        len(large_picture),
        path.stat().st_size,
    ]
    assert "Picture 1 is 1x1 pixels, PNG, mostly blue" in found["content"]
    assert "Picture 2 is 1900x1800 pixels" in found["content"]
    assert "Picture 3 is 64x48 pixels, JPEG, mostly red" in found["content"]
    assert emulator.find("uploadFileBase64")[1].size > 13_000_000


def test_pictures_need_eyes_and_belong_to_their_client(hold, picture):
    encoded = base64.b64encode(picture((2, 2))).decode()
    blind, other = hold("pictureProblems", key=VISION, picture=encoded)
    assert "does not support images" in " ".join(blind["message"].split())
    assert "not found" in other["message"]


def test_structured_output(hold):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}
    found = hold("structured", schema=schema, grammar='root ::= "yes" | "no"')
    assert isinstance(found["zod"]["title"], str)
    assert 1900 <= found["zod"]["year"] <= 2000
    assert found["schema"] == {"n": 7}
    assert isinstance(found["json"], dict)
    assert found["grammar"] in ("yes", "no")


def test_limits_stop_strings_and_the_end_of_the_context(hold):
    found = hold("limits")
    assert found["short"]["stats"]["stopReason"] == "maxPredictedTokensReached"
    assert found["short"]["stats"]["predictedTokensCount"] == 4
    assert (found["stopped"]["content"], found["stopped"]["stats"]["stopReason"]) == (
        "one ",
        "stopStringFound",
    )
    assert found["full"]["stats"]["stopReason"] == "contextLengthReached"
    assert "n_keep" in found["overflow"]["message"]


def test_the_continuation_of_a_text(hold, sdk, emulator):
    found = hold("completion")
    assert "You wrote: “Once upon a time”" in found["content"]
    assert found["stats"]["promptTokensCount"] == 4
    [record] = emulator.find("completeRawText" if sdk == "2" else "predict")
    assert record.finished


def test_speculative_decoding(hold):
    stats = hold("draft")["stats"]
    assert stats["usedDraftModelKey"] == THINKING
    accepted, rejected = stats["acceptedDraftTokensCount"], stats["rejectedDraftTokensCount"]
    assert stats["totalDraftTokensCount"] == accepted + rejected


def test_eight_predictions_at_once_share_four_slots(start, emulator):
    gate = emulator.hold("answering", after=1)
    talk = start("parallel", count=8)
    emulator.reached(gate, 4)
    emulator.wait_for(lambda e: sum(record.phase == "queued" for record in e.find("predict")) == 4)
    assert gate.arrived == 4
    emulator.release()
    assert talk.result() == [f"answer {number}" for number in range(8)]
    assert talk.logs == []


def test_a_packet_that_the_client_does_not_know(start, emulator):
    emulator.configure(unknown_packet=True)
    talk = start("simple", prompt="[[say=fine]]")
    assert talk.result()["content"] == "fine"
    assert any("quantumProgress" in line for line in talk.logs)


def test_a_crash_and_an_unload_under_a_prediction(start, hold, emulator):
    gate = emulator.hold("answering", after=2)
    talk = start("simple", prompt="[[words=50]]")
    emulator.reached(gate)
    emulator.call(lambda e: e.unload(TEXT))
    assert talk.result()["stats"]["stopReason"] == "modelUnloaded"
    emulator.release()
    emulator.configure(crash_after_tokens=3)
    talk = start("failing")
    talk.told("loaded")
    talk.say("go")
    assert "The model has crashed" in talk.result()["message"]
