"""Our routes in the real ComfyUI: what they tell, and to whom."""

from typing import Any

import pytest

HEADER = "X-LMBridge-Token"
LLM = "ibm/granite-4-micro"


async def test_connections_tell_whether_their_servers_answer(page: Any, comfy: Any) -> None:
    found = {
        item["name"]: item for item in (await page.get("/lmbridge/connections?refresh=1"))["connections"]
    }
    assert set(found) == {"acme", "lmstudio-rest", "lmstudio-sdk", "openai-compat", "gone"}
    assert found["lmstudio-rest"]["state"] == "up"
    assert found["lmstudio-rest"]["address"] == comfy.emulator.url.removeprefix("http://")
    assert found["gone"]["state"] == "down"
    assert found["gone"]["why"]
    assert found["gone"]["provider"] == "lmstudio-rest"


async def test_models_tell_what_they_can(page: Any) -> None:
    found = await page.get("/api/lmbridge/models?connection=lmstudio-rest&refresh=1")
    models = {model["id"]: model for model in found["models"]}
    assert models["qwen3-vl-4b"]["vision"] == "yes"
    assert models[LLM]["vision"] == "no"
    assert models["qwen/qwen3-4b"]["reasoning"] == "yes"
    assert found["error"] is None
    gone = await page.get("/lmbridge/models?connection=gone")
    assert gone["models"] == []
    assert gone["error"]["message"]
    unknown = await page.get("/lmbridge/models?connection=nobody")
    assert "lmstudio-rest" in unknown["error"]["hint"]


async def test_an_installed_plugin_is_in_the_dropdown(page: Any) -> None:
    inputs = (await page.get("/object_info/LMBridge_Chat"))["LMBridge_Chat"]["input"]["required"]
    assert "acme" in inputs["connection"][1]["options"]
    plugins = {item["name"]: item for item in (await page.get("/lmbridge/plugins"))["plugins"]}
    assert plugins["acme"]["distribution"] == "lmbridge-acme"


async def test_plugins_are_listed(page: Any) -> None:
    plugins = {item["name"]: item for item in (await page.get("/lmbridge/plugins"))["plugins"]}
    assert {"lmstudio-rest", "lmstudio-sdk", "openai-compat"} <= set(plugins)


async def test_loading_and_unloading_need_the_token(page: Any, comfy: Any) -> None:
    token = (await page.get("/lmbridge/session"))["token"]
    body = {"connection": "lmstudio-rest", "model": LLM}
    assert (await page.post("/lmbridge/models/load", body))[0] == 403
    assert (await page.post("/lmbridge/models/load", body, **{HEADER: "no"}))[0] == 403
    status, answer = await page.post("/lmbridge/models/load", body, **{HEADER: token})
    assert (status, answer) == (200, {"state": "loaded", "id": LLM})
    assert comfy.emulator.call(lambda emulator: len(list(emulator.instances))) == 1
    status, answer = await page.post("/lmbridge/models/unload", body, **{HEADER: token})
    assert (status, answer) == (200, {"unloaded": [LLM]})
    status, answer = await page.post("/lmbridge/models/load", {**body, "model": "no/such"}, **{HEADER: token})
    assert status == 404
    assert answer["error"]["message"]
    assert (await page.post("/lmbridge/models/load", [], **{HEADER: token}))[0] == 400
    assert (await page.post("/lmbridge/models/load", {"connection": 1}, **{HEADER: token}))[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example:8188", "Origin": "http://evil.example:8188"}, 403),
        ({"Host": "evil.example:8188", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_other_pages_are_refused(page: Any, headers: dict[str, str], status: int) -> None:
    async with page.session.get(f"{page.url}/lmbridge/session", headers=headers) as response:
        assert response.status == status
    async with page.session.get(f"{page.url}/api/lmbridge/connections", headers=headers) as response:
        assert response.status == status
