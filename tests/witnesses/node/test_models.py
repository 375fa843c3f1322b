"""Lists, loads and information about models."""

import time

TEXT, BOTH, SLOW = "ibm/granite-4-micro", "google/gemma-4-26b-a4b", "meta/llama-3.3-70b"
EMBEDDING = "text-embedding-nomic-embed-text-v1.5"


def test_lists_and_information(hold, sdk, emulator):
    found = hold("lists", key=BOTH)
    assert found["version"] == emulator.emulator.settings.version
    assert BOTH in [model["modelKey"] for model in found["downloaded"]]
    assert found["embeddings"] == [EMBEDDING]
    assert (found["before"], found["loaded"], found["embedders"]) == (0, [BOTH], [EMBEDDING])
    assert found["any"] == BOTH
    assert found["missing"] is None
    info = found["info"]
    assert (info["identifier"], info["vision"], info["contextLength"]) == (BOTH, True, 4096)
    assert len(info["instanceReference"]) == 24
    if sdk == "2":  # what the older client does not ask, or drops
        assert (info["publisher"], info["ttlMs"], info["selectedVariant"]) == (
            "google",
            None,
            f"{BOTH}@q4_k_m",
        )
        assert abs(info["lastUsedTime"] / 1000 - time.time()) < 3600  # a Unix timestamp
        assert found["daemon"]["version"] == found["version"]
        assert [entry["modelKey"] for entry in found["variants"]] == info["variants"]
        assert found["state"] == {"status": "idle", "queued": 0}


def test_a_load_on_request_reports_progress_once(start, sdk, emulator):
    talk = start("loadOnRequest", key=SLOW, other=TEXT)
    found = talk.result()
    assert found["progress"] == sorted(found["progress"])
    assert len(found["progress"]) == 50
    assert found["progress"][-1] == 1
    assert found["again"] == []
    assert [record.body.get("loadTtlMs") for record in emulator.find("getOrLoad")] == [60_000, None, None]
    assert any("Unloading other JIT model" in line and SLOW in line for line in talk.logs)
    assert any("progress: 100.0%" in line for line in talk.logs)
    assert [instance.id for instance in emulator.call(lambda e: e.instances)] == [TEXT]


def test_loads_with_a_configuration_and_names(hold, sdk, emulator):
    wanted = {
        "contextLength": 9000,
        "evalBatchSize": 64,
        "flashAttention": True,
        "gpu": {"ratio": 0.5},
        "seed": 3,
        "tryMmap": False,
    }
    if sdk == "2":
        wanted["maxParallelPredictions"] = 2
    found = hold("loadWithConfiguration", config=wanted)
    assert found["identifiers"] == ["mine", TEXT, f"{TEXT}:2"]
    assert found["progress"][-1] == 1
    assert found["context"] == found["info"]["contextLength"] == 9000
    assert found["left"] == [f"{TEXT}:2"]
    if sdk == "2":
        gpu = found["configuration"].pop("gpu")
        assert gpu["ratio"] == wanted.pop("gpu")["ratio"]
        assert wanted.items() <= found["configuration"].items()
        assert found["info"]["ttlMs"] == 90_000
        assert (found["base"]["temperature"], found["base"]["maxTokens"]) == (0.8, False)
    else:
        keys = {entry["key"]: entry["value"] for entry in found["configuration"]["fields"]}
        assert keys["llm.load.seed"] == {"checked": True, "value": 3}
        assert keys["llm.load.llama.tryMmap"] is False
        assert keys["llm.load.llama.acceleration.offloadRatio"] == 0.5
    again, predicted = found["problems"]
    assert 'Cannot find a model with identifier "mine"' in again["message"]
    assert "No loaded model satisfies all requirements" in predicted["message"]
    assert f"{TEXT}:2" in predicted["message"]


def test_a_model_is_unloaded_when_its_time_is_over(start, emulator):
    def pass_time(seconds):
        emulator.call(lambda e: e.clock.advance(seconds))

    talk = start("expire")
    talk.told("loaded")
    pass_time(50)
    talk.say("used")
    talk.told("answered")
    pass_time(50)
    talk.say("look")
    assert talk.told("listed")["left"] == ["short", "for ever"]
    pass_time(60)
    talk.say("look again")
    assert talk.result() == ["for ever"]
    assert talk.logs == []


def test_the_resources_of_a_model(hold, sdk, emulator):
    usage = hold("estimate")
    if sdk == "1":
        assert usage is None  # it has no such call
        return
    memory = usage["memory"]
    assert usage["passesGuardrails"]
    assert memory["totalBytes"] == memory["modelBytes"] + memory["contextBytes"]


def test_models_that_cannot_be_loaded(hold, emulator):
    unknown, chat, embedding, explicit, nothing = hold("loadProblems")
    for problem in (unknown, explicit):
        assert 'Cannot find a model with path "nobody/nothing"' in problem["message"]
        assert TEXT in problem["message"]
    assert "Model has wrong domain" in chat["message"]
    assert "Model has wrong domain" in embedding["message"]
    assert "You don't have any models loaded" in nothing["message"]


def test_a_load_that_fails(hold, emulator):
    emulator.configure(load_failure=True)
    problem = hold("loadFails")
    assert "insufficient system resources" in " ".join(problem["message"].replace("│", " ").split())
    assert emulator.find("getOrLoad")[0].failed


def test_templates_and_tokens_agree_with_the_stats(hold):
    history = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "hello"}]
    found = hold("texts", history=history)
    assert "Be kind" in found["formatted"]
    assert found["count"] == len(found["tokens"]) == found["stats"]["promptTokensCount"]
    assert [len(tokens) for tokens in found["several"]] == [2, 1]


def test_embeddings(hold):
    found = hold("embeddings")
    assert len(found["one"]) == 768
    assert found["several"][0] == found["one"] != found["several"][1]
    assert found["tokens"] == found["count"] == 2
    assert found["context"] == 2048


def test_a_download_reports_its_progress(hold):
    found = hold("download")
    assert (found["name"], found["key"]) == ("Ministral 3 3B", "mistralai/ministral-3-3b")
    sizes = [update["downloadedBytes"] for update in found["updates"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == found["updates"][-1]["totalBytes"]
    assert found["phases"] == ["finalizing"]
    assert found["listed"]


def test_a_type_of_model_that_the_client_does_not_know_leaves_it_waiting(start, emulator):
    emulator.configure(unknown_model_type=True)
    start("downloadedModels")

    def complaint(running):
        frames = [frame for record in running.find("WS /system") for frame in record.frames]
        return next((frame for frame in frames if frame.get("type") == "communicationWarning"), None)

    assert "Expected 'llm' | 'embedding'" in emulator.wait_for(complaint)["warning"]
    assert emulator.find("listDownloadedModels")[0].finished
