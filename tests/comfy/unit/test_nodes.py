"""The nodes on the double of ComfyUI, against the emulator."""

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lmbridge.emulator import Emulator
from lmbridge.ledger import Ledger
from lmbridge.runtime import runtime

LLM = "ibm/granite-4-micro"
VISION = "qwen3-vl-4b"
Pack = Callable[[str], ModuleType]


@pytest.fixture
async def ready(
    pack: Pack, host: Any, lmstudio_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> AsyncIterator[None]:
    """Connections to the emulator, and a ledger of the test's own."""
    host.private = tmp_path
    for name in ("LMSTUDIO_REST", "LMSTUDIO_SDK"):
        monkeypatch.setenv(f"LMBRIDGE_CONNECTIONS__{name}__BASE_URL", lmstudio_emulator.url)
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__OPENAI_COMPAT__BASE_URL", f"{lmstudio_emulator.url}/v1")
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__GONE__BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LMBRIDGE_CONNECTIONS__GONE__PROVIDER", "lmstudio-rest")
    monkeypatch.setattr("lmbridge.ledger._ledger", Ledger())
    yield
    opened = await asyncio.to_thread(pack("service").service.open)
    await asyncio.wrap_future(runtime().submit(opened.bridge.close()))


@pytest.fixture
def chat(pack: Pack, host: Any, ready: None) -> Callable[..., Any]:
    """Run the chat node: ``await chat("Hello", seed=1)``."""
    node = pack("chat_node").LMBridgeChat
    given = {"connection": "lmstudio-rest", "model": LLM, "preset": "none"}
    places = {"name", "prompt_id", "item", "metadata", "shown"}

    async def run(prompt: str = "Hello", **inputs: Any) -> Any:
        where = {key: inputs.pop(key) for key in places & set(inputs)}
        values = {**given, "prompt": prompt, **inputs}
        graph = inputs.pop("graph", None)
        values.pop("graph", None)
        own = {where.get("name", "1"): {"class_type": "LMBridge_Chat", "inputs": values}}
        return await host.run(node, graph=graph or own, **where, **values)

    return run


def test_importing_the_entry_does_nothing(host: Any, pack: Pack) -> None:
    assert not host.routes.handlers
    assert not host.prompt_handlers


async def test_the_extension_hooks_into_the_server(pack: Pack, host: Any) -> None:
    extension = pack("extension").LMBridgeExtension()
    await extension.on_load()
    nodes = await extension.get_node_list()
    assert [node.define_schema().node_id for node in nodes] == [
        "LMBridge_Chat",
        "LMBridge_Options",
        "LMBridge_Models",
    ]
    paths = {path for _, path in host.routes.handlers}
    assert all(path.startswith("/lmbridge/") for path in paths)
    assert {"/lmbridge/session", "/lmbridge/models", "/lmbridge/models/load", "/lmbridge/stop"} <= paths
    assert len(host.app.middlewares) == len(host.app.on_startup) == len(host.prompt_handlers) == 1
    pack("service").service.prepare_in_background = lambda: None
    await host.app.on_startup[0](None)
    assert {one.old_node_id for one in host.replacements} == {"LMStudio_Unified_Chat", "XDEV_LMStudioChat"}


async def test_two_copies_of_the_pack_are_one_too_many(pack: Pack, host: Any) -> None:
    pack("_host").claim("/custom_nodes/other.comfy_nodes")
    with pytest.raises(RuntimeError, match=r"twice: remove this one, or /custom_nodes/other$"):
        await pack("extension").LMBridgeExtension().on_load()
    assert not host.routes.handlers


async def test_another_pack_keeps_its_routes(pack: Pack, host: Any) -> None:
    host.routes.route("GET", "/lmbridge/models")("theirs")
    await pack("extension").LMBridgeExtension().on_load()
    assert host.routes.handlers["GET", "/lmbridge/models"] == "theirs"
    assert ("GET", "/lmbridge/session") in host.routes.handlers


async def test_every_input_of_a_replacement_is_one_of_ours(pack: Pack, host: Any) -> None:
    await pack("replacing").register()
    schema = pack("chat_node").LMBridgeChat.define_schema()
    ours = {one.id for one in schema.inputs}
    for replace in host.replacements:
        assert {item["new_id"] for item in replace.input_mapping} <= ours
        assert all(item["new_idx"] < len(schema.outputs) for item in replace.output_mapping)


def test_the_order_of_the_widgets_is_final(pack: Pack, host: Any) -> None:
    schema = pack("chat_node").LMBridgeChat.define_schema()
    assert [one.id for one in schema.inputs] == [
        *("connection", "model", "preset", "prompt", "system_prompt", "seed", "temperature", "max_tokens"),
        *("reasoning", "image_mode", "on_error", "fallback_text", "rerun", "before_run", "after_run"),
        *("save_answer", "kept_answer", "image", "options"),
    ]
    assert [one.id for one in schema.outputs] == ["text", "reasoning", "conversation", "stats"]
    assert schema.is_output_node
    assert schema.not_idempotent
    required = [one.id for one in schema.inputs if not one.optional]
    assert required == [one.id for one in schema.inputs][: len(required)]  # pages list required ones first


def test_everything_is_explained(pack: Pack, host: Any) -> None:
    for module, name in (("chat_node", "Chat"), ("options_node", "Options"), ("models_node", "Models")):
        schema = getattr(pack(module), f"LMBridge{name}").define_schema()
        assert schema.description
        assert schema.search_aliases
        assert schema.category == "LM Bridge"
        assert all(one.options.get("tooltip") for one in schema.inputs)
        assert all(one.tooltip for one in schema.outputs)


async def test_the_dropdowns_offer_what_is_configured(pack: Pack, host: Any, ready: None) -> None:
    node = pack("chat_node").LMBridgeChat
    assert node.define_schema().inputs[0].options["options"] == []  # ComfyUI is still loading packs
    pack("service").service.prepare_in_background()
    inputs = {one.id: one.options for one in await asyncio.to_thread(lambda: node.define_schema().inputs)}
    assert set(inputs["connection"]["options"]) == {"lmstudio-rest", "lmstudio-sdk", "openai-compat", "gone"}
    assert inputs["preset"]["options"][0] == "none"
    assert "creative" in inputs["preset"]["options"]


async def test_an_answer(chat: Callable[..., Any], host: Any) -> None:
    found = await chat("[[think=hm]][[say=Hello]]", model="qwen/qwen3-4b", system_prompt="Be kind.")
    (text,), (reasoning,), (conversation,), (stats,) = found.args
    assert (text, reasoning) == ("Hello", "hm")
    assert [turn.role for turn in conversation.messages] == ["system", "user", "assistant"]
    assert conversation.messages[-1].text == "Hello"
    assert json.loads(stats)["model"] == "qwen/qwen3-4b"
    assert found.ui["lmbridge"][0]["text"] == "Hello"
    updates = host.updates()
    assert [one["seq"] for one in updates] == list(range(len(updates)))
    assert "".join(one["text"] for one in updates) == "Hello"
    assert {client for _, _, client in host.sent} == {"page"}


async def test_a_prompt_without_a_page_sends_nothing(chat: Callable[..., Any], host: Any) -> None:
    host.client = None
    found = await chat("[[say=Hello]]")
    assert found.args[0] == ["Hello"]
    assert not host.sent
    assert not host.texts


async def test_a_node_made_by_an_expansion_is_shown_where_it_came_from(chat: Any, host: Any) -> None:
    await chat(name="7.0.1", shown={"7.0.1": "7"}, metadata={"workflow": {"id": "w"}})
    assert {(one["display_node"], one["workflow_id"]) for one in host.updates("7.0.1")} == {("7", "w")}


async def test_cancel(chat: Any, host: Any, lmstudio_emulator: Emulator, double_module: Any) -> None:
    gate = lmstudio_emulator.gates.hold("answering", after=2)
    running = asyncio.create_task(chat("[[words=50]]"))
    await gate.reached()
    host.interrupt = True
    with pytest.raises(double_module.InterruptProcessingException):
        async with asyncio.timeout(20):
            await running
    await lmstudio_emulator.wait_for(lambda emulator: emulator.last.cancelled)
    assert host.interrupt  # who else works on this prompt has to see it, too


async def test_an_execution_that_is_torn_down_stops_the_server(
    chat: Callable[..., Any], lmstudio_emulator: Emulator
) -> None:
    gate = lmstudio_emulator.gates.hold("answering", after=2)
    running = asyncio.create_task(chat("[[words=50]]"))
    await gate.reached()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await lmstudio_emulator.wait_for(lambda emulator: emulator.last.cancelled)


async def test_a_call_that_is_left_at_once_is_forgotten(chat: Callable[..., Any], pack: Pack) -> None:
    for _ in range(20):
        running = asyncio.create_task(chat("[[words=50]]"))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    async with asyncio.timeout(20):
        while list(pack("calls").running_calls()):  # noqa: ASYNC110 - calls end on another thread
            await asyncio.sleep(0.01)


async def test_a_failure_is_one_sentence(chat: Callable[..., Any], pack: Pack, host: Any) -> None:
    with pytest.raises(pack("problems").NodeError, match=r"^gone: .*\?$") as caught:
        await chat(connection="gone")
    assert caught.value.__cause__ is None
    assert host.updates()[-1]["phase"] == "failed"
    assert pack("problems").last_problems()[0]["connection"] == "gone"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"prompt": "  "}, "The prompt is empty."),
        ({"model": "Type a name…"}, "No model is chosen."),
        ({"image": np.zeros((0, 8, 8, 3), np.float32)}, "The image holds no picture."),
        ({"rerun": "keep this answer", "kept_answer": "{"}, "The kept answer cannot be read."),
        ({"rerun": "keep this answer", "kept_answer": "[]"}, "The kept answer cannot be read."),
        ({"preset": "creatve"}, "creatve"),
        ({"connection": "nobody"}, "no connection is named 'nobody'"),
    ],
)
async def test_what_is_wrong_is_said_plainly(chat: Any, pack: Pack, inputs: Any, said: str) -> None:
    with pytest.raises(pack("problems").NodeError) as caught:
        await chat(**inputs)
    assert said in str(caught.value)


async def test_an_error_is_never_an_answer_but_a_fallback_may_be(chat: Any, pack: Pack, host: Any) -> None:
    node = pack("chat_node").LMBridgeChat.prepared(type("H", (), {"unique_id": "1"})())
    before = node.fingerprint_inputs(rerun="reuse until inputs change")
    found = await chat(connection="gone", on_error="use fallback text", fallback_text="a cat")
    assert found.args[0] == ["a cat"]
    assert found.ui["lmbridge"][0]["error"]
    assert "error" in json.loads(found.args[3][0])
    assert node.fingerprint_inputs(rerun="reuse until inputs change") != before  # asked again next time


async def test_one_picture_that_fails_leaves_the_others(chat: Any, lmstudio_emulator: Emulator) -> None:
    lmstudio_emulator.configure(pixel_limit=5000)
    pictures = [np.zeros((size, size, 3), np.float32) for size in (32, 256, 32)]
    found = await chat(
        "What is it?",
        model=VISION,
        image=pictures,
        image_mode="one call per image",
        on_error="use fallback text",
        fallback_text="unknown",
    )
    assert [text == "unknown" for text in found.args[0]] == [False, True, False]


async def test_list_items_and_pictures_have_indices_of_their_own(chat: Any, host: Any) -> None:
    batch = np.zeros((2, 16, 16, 3), np.float32)
    await chat("What?", model=VISION, image=batch, image_mode="one call per image", item=3)
    assert {one["index"] for one in host.updates()} == {3 * 4096, 3 * 4096 + 1}
    await chat("What?", name="2", item=3)
    assert {one["index"] for one in host.updates("2")} == {3}


async def test_comfyuis_memory_is_freed_in_executes_own_thread(
    chat: Any, host: Any, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    own = pack("_host")
    free = own.free_memory
    monkeypatch.setattr(own, "free_memory", lambda: (threads.append(threading.current_thread()), free()))
    await chat(before_run="free ComfyUI's memory first")
    assert threads == [threading.current_thread()]
    assert host.freed == 1
    await chat(name="2")
    assert host.freed == 1


async def test_a_kept_answer_asks_nobody(chat: Any, host: Any, lmstudio_emulator: Emulator) -> None:
    kept = json.dumps({"text": "mine", "model": "m", "connection": "c"})
    found = await chat(rerun="keep this answer", kept_answer=kept, before_run="free ComfyUI's memory first")
    assert found.args[0] == ["mine"]
    assert json.loads(found.args[3][0])["model"] == "m"
    assert not lmstudio_emulator.requests
    assert host.freed == 0


def test_always_new_never_equals_itself(pack: Pack) -> None:
    node = pack("chat_node").LMBridgeChat
    assert math.isnan(node.fingerprint_inputs(rerun="always new"))
    kept = node.fingerprint_inputs(rerun="keep this answer")
    assert node.fingerprint_inputs(rerun="keep this answer") == kept


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ({}, []),
        ({"image": None}, ["image"]),
        ({"image": "there"}, []),
        ({"image": None, "rerun": "keep this answer"}, ["image"]),
        ({"image": None, "rerun": "keep this answer", "kept_answer": "{}"}, []),
        ({"image": None, "rerun": "always new", "kept_answer": "{}"}, ["image"]),
    ],
)
def test_the_image_is_asked_for_only_if_needed(pack: Pack, inputs: Any, wanted: list[str]) -> None:
    assert pack("chat_node").LMBridgeChat.check_lazy_status(prompt="x", **inputs) == wanted


async def test_unloading_waits_for_the_server(chat: Any, lmstudio_emulator: Emulator) -> None:
    await chat(after_run="unload if we loaded it")
    assert not list(lmstudio_emulator.instances)


async def test_a_server_that_cannot_unload_is_a_note_no_failure(chat: Any) -> None:
    found = await chat(connection="openai-compat", after_run="unload")
    assert found.args[0][0]
    assert any("could not be unloaded" in note for note in found.ui["lmbridge"][0]["notes"])


async def test_options_reach_the_request(
    chat: Any, pack: Pack, host: Any, lmstudio_emulator: Emulator
) -> None:
    node = pack("options_node").LMBridgeOptions
    options = await host.run(node, top_k=5, min_p=0.1, stop="a\n\nb", temperature=0.3, max_tokens=99)
    await chat(connection="openai-compat", options=options.args[0], temperature=0.8)
    body = lmstudio_emulator.last.body
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0.8, ["a", "b"], 99)


async def test_options_are_all_unset_by_default(pack: Pack, host: Any) -> None:
    found = await host.run(pack("options_node").LMBridgeOptions)
    assert found.args[0].explicit() == {}
    schema = pack("options_node").LMBridgeOptions.define_schema()
    defaults = {one.id: one.options["default"] for one in schema.inputs}
    assert (await host.run(pack("options_node").LMBridgeOptions, **defaults)).args[0].explicit() == {}


async def test_options_that_are_no_json_object_are_refused(pack: Pack, host: Any) -> None:
    for text in ("{", "[1]", "1", '"a"', "[" * 100_000):
        with pytest.raises(pack("problems").NodeError, match="load is no JSON object"):
            await host.run(pack("options_node").LMBridgeOptions, load=text)


async def test_the_models_node(pack: Pack, host: Any, ready: None, lmstudio_emulator: Emulator) -> None:
    node = pack("models_node").LMBridgeModels
    given = {"connection": "lmstudio-rest", "model": LLM}
    found = await host.run(node, action="load", context_length=2048, after="x", **given)
    assert found.args[0].startswith(f"{LLM} is loaded with 2048 tokens of context.")
    assert found.args[2] == "x"
    assert LLM in found.args[1]
    found = await host.run(node, action="unload", **given)
    assert found.args[0].startswith(f"{LLM} was unloaded.")
    with pytest.raises(pack("problems").NodeError, match="gone: "):
        await host.run(node, action="list", connection="gone", model="automatic")


async def test_cancel_of_a_load(
    pack: Pack, host: Any, ready: None, double_module: Any, lmstudio_emulator: Emulator
) -> None:
    gate = lmstudio_emulator.gates.hold("loading")
    node = pack("models_node").LMBridgeModels
    running = asyncio.create_task(host.run(node, action="load", connection="lmstudio-sdk", model=LLM))
    await gate.reached()
    host.interrupt = True
    with pytest.raises(double_module.InterruptProcessingException):
        async with asyncio.timeout(20):
            await running
    gate.release()
    await lmstudio_emulator.wait_for(lambda emulator: not emulator.loading and not list(emulator.instances))
