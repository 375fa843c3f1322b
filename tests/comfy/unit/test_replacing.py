"""Prompts with nodes of older packs, rewritten on their way into the queue."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Pack = Callable[[str], ModuleType]

ADDRESSES = {
    "lmstudio-rest": ("lmstudio-rest", ""),
    "lmstudio-sdk": ("lmstudio-sdk", ""),
    "openai-compat": ("openai-compat", ""),
    "workstation": ("lmstudio-rest", "http://192.168.1.5:1234"),
    "ollama": ("openai-compat", "http://localhost:11434/v1"),
}


@pytest.fixture
def rewrite(pack: Pack, host: Any) -> Callable[[Any], Any]:
    """Rewrite a graph and return its first node's inputs."""
    replacing = pack("replacing")
    replacing.service.addresses = lambda: ADDRESSES

    def work(graph: Any) -> Any:
        replacing.rewrite(graph)
        return graph["1"]["inputs"]

    return work


def unified(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "LMStudio_Unified_Chat", "inputs": {"prompt": "x", **inputs}, "_meta": {}}}


def xdev(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "XDEV_LMStudioChat", "inputs": {"prompt": "x", "server_url": "", **inputs}}}


@pytest.mark.parametrize(
    ("mode", "address", "connection"),
    [
        ("SDK", "", "lmstudio-sdk"),
        ("REST API", "", "lmstudio-rest"),
        ("REST API", "http://127.0.0.1:1234", "lmstudio-rest"),
        ("REST API", "localhost:1234/v1", "lmstudio-rest"),
        ("REST API", "http://192.168.1.5:1234/", "workstation"),
        ("REST API", "192.168.1.5:1234", "workstation"),
        ("REST API", "http://192.168.1.99:1234", "lmstudio-rest"),
        ("REST API", "http://[", "lmstudio-rest"),
        ("something else", "", "lmstudio-rest"),
    ],
)
def test_mode_and_address_become_a_connection(rewrite: Any, mode: str, address: str, connection: str) -> None:
    inputs = rewrite(unified(connection_mode=mode, **{"connection_mode.server_url": address}))
    assert inputs["connection"] == connection


def test_an_address_alone_finds_its_connection(rewrite: Any) -> None:
    assert rewrite(xdev(server_url="http://localhost:11434"))["connection"] == "ollama"
    assert rewrite(xdev(server_url="http://user:secret@nowhere:1"))["connection"] == "lmstudio-rest"


def test_an_address_that_leads_nowhere_is_told_without_its_secrets(rewrite: Any, caplog: Any) -> None:
    rewrite(xdev(server_url="http://user:secret@nowhere:1"))
    assert "no connection leads to nowhere:1" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("model", ["", " ", "Loading models from LM Studio...", "LM Studio offline"])
def test_texts_that_name_no_model(rewrite: Any, model: str) -> None:
    assert rewrite(unified(model_id=model))["model"] == "automatic"


def test_links_stay_links(rewrite: Any) -> None:
    graph = unified(prompt=["5", 0], model_id=["6", 0], connection_mode=["7", 0], seed=["8", 0])
    inputs = rewrite(graph)
    assert inputs["prompt"] == ["5", 0]
    assert inputs["model"] == ["6", 0]
    assert inputs["connection"] == ["7", 0]
    assert inputs["seed"] == ["8", 0]


def test_presets_are_carried_but_custom_is_none(rewrite: Any) -> None:
    assert rewrite(xdev(preset="creative"))["preset"] == "creative"
    assert rewrite(xdev(preset="custom"))["preset"] == "none"
    assert rewrite(unified())["preset"] == "none"


def test_seeds_fit_ours(rewrite: Any) -> None:
    assert rewrite(unified(seed=5))["seed"] == 5
    assert 0 <= rewrite(unified(seed=2**64 - 1))["seed"] < 2**53


def test_links_to_its_outputs_move(rewrite: Any) -> None:
    graph = unified()
    graph["2"] = {
        "class_type": "Show",
        "inputs": {"a": ["1", 2], "b": ["1", 0], "c": ["9", 2], "d": ["1", 7]},
    }
    rewrite(graph)
    assert graph["2"]["inputs"] == {"a": ["1", 3], "b": ["1", 0], "c": ["9", 2], "d": ["1", 7]}


def test_an_installed_pack_keeps_its_nodes(rewrite: Any, host: Any) -> None:
    host.nodes["LMStudio_Unified_Chat"] = object
    graph = unified(model_id="m")
    rewrite(graph)
    assert graph["1"]["class_type"] == "LMStudio_Unified_Chat"


def test_what_has_no_place_is_told(rewrite: Any, caplog: Any) -> None:
    rewrite(unified(json_schema='{"type": "object"}'))
    assert "no json_schema" in caplog.text
