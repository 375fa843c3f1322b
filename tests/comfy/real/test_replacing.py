"""Nodes of two older packs, queued in a ComfyUI that has only ours."""

from typing import Any

LLM = "ibm/granite-4-micro"


def unified(**inputs: Any) -> dict[str, Any]:
    return {
        "class_type": "LMStudio_Unified_Chat",
        "inputs": {"prompt": "[[say=moved]]", "model_id": LLM, **inputs},
    }


def xdev(**inputs: Any) -> dict[str, Any]:
    given = {
        "prompt": "[[say=moved]]",
        "server_url": "http://x",
        "model": LLM,
        "preset": "balanced",
        **inputs,
    }
    return {"class_type": "XDEV_LMStudioChat", "inputs": given}


async def test_an_old_node_runs_as_ours_with_everything_carried(page: Any, comfy: Any) -> None:
    graph = {
        "1": unified(
            system_prompt="[[say=moved]]",
            connection_mode="REST API",
            **{"connection_mode.server_url": comfy.emulator.url},
            seed=2**64 - 1,
            temperature=0.25,
            max_tokens=50,
            json_schema="",
            stream_output="old",
            debug_mode=False,
        ),
        "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 1]}},
        "4": {"class_type": "Test_Show", "inputs": {"value": ["1", 2]}},
    }
    run = await page.run(graph)
    assert run.end == "execution_success"
    assert run.shown("2") == ["moved"]
    assert run.shown("3") == [""]
    assert '"connection": "lmstudio-rest"' in run.shown("4")[0]
    body = comfy.emulator.call(lambda emulator: emulator.last.body)
    assert body["temperature"] == 0.25
    assert body["max_output_tokens"] == 50


async def test_absent_inputs_never_break_a_prompt(page: Any) -> None:
    run = await page.run({"1": unified(), "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 2]}}})
    assert run.end == "execution_success"
    assert '"connection": "lmstudio-rest"' in run.shown("2")[0]
    run = await page.run({"1": {"class_type": "LMStudio_Unified_Chat", "inputs": {}}})
    assert run.error.startswith("The prompt is empty.")


async def test_the_sdk_mode_becomes_the_sdk_connection(page: Any) -> None:
    graph = {
        "1": unified(connection_mode="SDK"),
        "2": {"class_type": "Test_Show", "inputs": {"value": ["1", 2]}},
    }
    assert '"connection": "lmstudio-sdk"' in (await page.run(graph)).shown("2")[0]


async def test_an_image_is_carried(page: Any) -> None:
    graph = {
        "1": unified(prompt="What is it?", model_id="qwen3-vl-4b", image=["2", 0]),
        "2": {"class_type": "Test_Picture", "inputs": {"count": 1, "name": "old"}},
        "3": {"class_type": "Test_Show", "inputs": {"value": ["1", 0]}},
    }
    assert "mostly red" in (await page.run(graph)).shown("3")[0]


async def test_every_output_of_the_other_pack_has_a_target(page: Any, comfy: Any) -> None:
    graph: dict[str, Any] = {"1": xdev(server_url=comfy.emulator.url + "/v1", temperature=0.5)}
    for number in range(4):
        graph[str(number + 2)] = {"class_type": "Test_Show", "inputs": {"value": ["1", number]}}
    run = await page.run(graph)
    assert run.end == "execution_success"
    assert run.shown("2") == run.shown("3") == ["moved"]
    assert run.shown("4") == run.shown("5")
    assert "settings" in run.shown("4")[0]


async def test_comfyui_offers_both_replacements(page: Any) -> None:
    offered = await page.get("/node_replacements")
    for old in ("LMStudio_Unified_Chat", "XDEV_LMStudioChat"):
        (entry,) = offered[old]
        assert entry["new_node_id"] == "LMBridge_Chat"
        assert {item["new_id"] for item in entry["input_mapping"]} >= {
            "prompt",
            "model",
            "connection",
            "preset",
        }
    assert [item["old_idx"] for item in offered["XDEV_LMStudioChat"][0]["output_mapping"]] == [0, 1, 2, 3]
