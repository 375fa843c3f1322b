"""What a load configuration holds (documented in rest/list and rest/load)."""

import pytest

from lmbridge.emulator import DEFAULT_CATALOG, CatalogModel

TEXT, EXPERTS, EMBEDDING = (
    "ibm/granite-4-micro",
    "openai/gpt-oss-20b",
    "text-embedding-nomic-embed-text-v1.5",
)
MLX = CatalogModel(key="mlx-community/tiny", format="mlx")
LLAMA_CPP = {"context_length", "eval_batch_size", "flash_attention", "offload_kv_cache_to_gpu"}


@pytest.mark.parametrize(
    ("key", "echoed", "listed"),
    [
        (TEXT, LLAMA_CPP, LLAMA_CPP | {"parallel"}),
        (EXPERTS, LLAMA_CPP | {"num_experts"}, LLAMA_CPP | {"num_experts", "parallel"}),
        (MLX.key, {"context_length"}, {"context_length", "parallel"}),
        (EMBEDDING, {"context_length"}, {"context_length"}),
    ],
)
async def test_only_what_applies_to_the_model_is_told(make_lmstudio_emulator, connect, key, echoed, listed):
    http = await connect(await make_lmstudio_emulator(catalog=(*DEFAULT_CATALOG, MLX)))
    asked = {"eval_batch_size": 64, "num_experts": 2, "flash_attention": False}
    body = {"model": key, "context_length": 1024, **asked, "echo_load_config": True}
    _, answer = await http.post("/api/v1/models/load", body)
    config = answer["load_config"]
    assert config.keys() == echoed
    assert config["context_length"] == 1024
    assert all(config[name] == value for name, value in asked.items() if name in config)
    _, models = await http.get("/api/v1/models")
    (entry,) = [model for model in models["models"] if model["key"] == key]
    assert entry["loaded_instances"][0]["config"].keys() == listed


async def test_the_configuration_is_echoed_only_when_asked_for(http):
    _, answer = await http.post("/api/v1/models/load", {"model": TEXT})
    assert answer.keys() == {"type", "instance_id", "load_time_seconds", "status"}
