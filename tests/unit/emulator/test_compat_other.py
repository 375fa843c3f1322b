"""The compatible routes beside chat: text completions, embeddings, listings, unknown routes."""

import pytest

TEXT, THINKING = "ibm/granite-4-micro", "qwen/qwen3-4b"
VISION, EMBEDDING = "qwen3-vl-4b", "text-embedding-nomic-embed-text-v1.5"


def user(text):
    return [{"role": "user", "content": text}]


async def test_without_jit_only_loaded_models_are_listed_and_served(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(jit=False)
    http = await connect(emulator)
    assert (await http.get("/v1/models"))[1]["data"] == []
    status, answer = await http.post("/v1/chat/completions", {"model": TEXT, "messages": user("Hi")})
    assert (status, answer["error"]["code"]) == (400, None)
    assert answer["error"]["message"].startswith("No models loaded.")
    await http.post("/api/v1/models/load", {"model": TEXT})
    assert [entry["id"] for entry in (await http.get("/v1/models"))[1]["data"]] == [TEXT]
    await http.chat("Hi")
    status, answer = await http.post("/v1/chat/completions", {"model": THINKING, "messages": user("Hi")})
    assert status == 404
    assert f"Your models:\n\n{TEXT}" in answer["error"]["message"]


async def test_the_wrong_model_may_answer(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(loaded=(TEXT,), wrong_model_served=True))
    answer = await http.chat("Hi", "nobody/nothing")
    assert answer["model"] == TEXT


async def test_usage_may_be_zero(make_lmstudio_emulator, connect):
    http = await connect(await make_lmstudio_emulator(zero_usage=True))
    assert (await http.chat("Hi"))["usage"]["total_tokens"] == 0


async def test_text_is_completed(http):
    body = {"model": TEXT, "prompt": "Once upon a time", "max_tokens": 12}
    _, answer = await http.post("/v1/completions", body)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    events = await http.events("/v1/completions", {**body, "stream": True})
    text = "".join(data["choices"][0]["text"] for _, data in events[:-1])
    assert text == answer["choices"][0]["text"]
    assert events[-1][1] == "[DONE]"


async def test_v0_tells_stats_model_and_runtime(http):
    body = {"model": TEXT, "messages": user("Hi"), "draft_model": THINKING}
    _, answer = await http.post("/api/v0/chat/completions", body)
    assert answer["stats"]["stop_reason"] == "eosFound"
    assert answer["stats"]["draft_model"] == THINKING
    assert answer["model_info"] == {
        "arch": "granite",
        "quant": "Q4_K_M",
        "format": "gguf",
        "context_length": 4096,
    }
    assert answer["runtime"]["supported_formats"] == ["gguf"]
    _, answer = await http.post("/api/v0/completions", {"model": TEXT, "prompt": "Hi"})
    assert answer["stats"]["stop_reason"] == "eosFound"


async def test_v0_lists_types_and_states(http):
    await http.chat("Hi")
    _, listing = await http.get("/api/v0/models")
    found = {entry["id"]: entry for entry in listing["data"]}
    assert (found[VISION]["type"], found[EMBEDDING]["type"], found[TEXT]["type"]) == (
        "vlm",
        "embeddings",
        "llm",
    )
    assert (found[TEXT]["state"], found[TEXT]["loaded_context_length"]) == ("loaded", 4096)
    assert found[VISION]["state"] == "not-loaded"
    assert await http.get(f"/api/v0/models/{TEXT}") == (200, found[TEXT])
    assert (await http.get("/api/v0/models/nobody/nothing"))[0] == 404


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/v0/embeddings"])
async def test_embeddings_are_unit_vectors_and_like_texts_are_near(http, path):
    texts = ["the cat sat on the mat", "the cat sat on a mat", "quantum chromodynamics"]
    _, answer = await http.post(path, {"model": EMBEDDING, "input": texts})
    first, second, third = (entry["embedding"] for entry in answer["data"])
    assert len(first) == 768
    assert sum(x * x for x in first) == pytest.approx(1.0)
    near = sum(a * b for a, b in zip(first, second, strict=True))
    far = sum(a * b for a, b in zip(first, third, strict=True))
    assert near > far + 0.3
    if path.startswith("/api/v0/"):  # as in the documentation's example
        assert answer["model"] == f"{EMBEDDING}@q4_k_m"
        assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    else:
        assert answer["model"] == EMBEDDING
        assert answer["usage"]["prompt_tokens"] > 3
    _, single = await http.post(path, {"model": EMBEDDING, "input": texts[0]})
    assert single["data"][0]["embedding"] == first
    assert (await http.post(path, {"model": EMBEDDING, "input": []}))[0] == 400
    assert (await http.post(path, {"model": TEXT, "input": "x"}))[0] == 400


async def test_unknown_routes_are_answered_with_200_and_an_error(emulator, http):
    for method, path in (("GET", "/"), ("GET", "/v1/chat/completions"), ("GET", "/llm")):
        error = f"Unexpected endpoint or method. ({method} {path})"
        assert await http.get(path) == (200, {"error": error})
    assert "Returning 200 anyway" in emulator.last.warnings[0]
    assert await http.post("/v1/models/unload", {}) == (
        200,
        {"error": "Unexpected endpoint or method. (POST /v1/models/unload)"},
    )
