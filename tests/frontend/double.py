"""A small double of ComfyUI's server: enough that the real frontend starts and our script can be tested.

It serves the frontend's own files, this pack's script, locales and example workflows, answers the calls that
the frontend makes at start, and lets a test send any event over the websocket and see what the page posted.
It executes nothing: a test plays the server's part.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

ROOT = Path(__file__).resolve().parents[2]
PACK = "lmbridge"
WEB = ROOT / "web" / "comfyui"
TOKEN = "token-of-this-start"

#: What a page gets when nothing else is said: no tours, no template browser, no error reports.
QUIET: dict[str, Any] = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.58.1",
    "Comfy.Release.Status": "skipped",
    "Comfy.Workflow.ShowMissingNodesWarning": True,
    "Comfy.Locale": "en",
    "Comfy.NodeReplacement.Enabled": True,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.VueNodes.AutoScaleLayout": False,
}


def model(name: str, **facts: Any) -> dict[str, Any]:
    """One entry of ``GET /lmbridge/models``."""
    usual = {
        "id": name, "name": name, "kind": "llm", "loaded": False, "vision": "no", "reasoning": "no",
        "tools": "unknown", "context_length": None, "max_context_length": 32768, "instances": [],
    }  # fmt: skip
    return usual | facts


def connection(name: str, state: str = "up", **facts: Any) -> dict[str, Any]:
    """One entry of ``GET /lmbridge/connections``."""
    usual = {"name": name, "provider": name, "state": state, "why": None, "hint": None, "address": None}
    return usual | facts


@dataclass
class Double:
    """The server's state, all of it open to the test."""

    frontend: Path
    nodes: dict[str, Any]
    prefix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: dict(QUIET))
    connections: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugins: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    replacements: dict[str, Any] = field(default_factory=dict)
    token: str = TOKEN
    posted: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    """Each POST to a route of ours: path, body, the status it was answered with."""
    asked: list[str] = field(default_factory=list)
    """Each GET of a route of ours, with its query."""
    foreign: list[str] = field(default_factory=list)
    """Each path the frontend asked for that is not served here."""
    prompts: list[dict[str, Any]] = field(default_factory=list)
    running: list[list[Any]] = field(default_factory=list)
    """The queue's items under way: number and prompt id."""
    history: dict[str, dict[str, Any]] = field(default_factory=dict)
    userdata: dict[str, bytes] = field(default_factory=dict)
    _sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _connected: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def start(self) -> None:
        """Serve on a free port of this machine, on a thread of its own."""
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        assert ready.wait(30)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def send(self, kind: str, data: dict[str, Any], client: str | None = None) -> None:
        """Send one event to the client, or to all."""
        self.send_many([(kind, data)], client)

    def send_many(self, events: list[tuple[str, dict[str, Any]]], client: str | None = None) -> None:
        """Send events one after the other, as fast as the socket takes them."""
        assert self._connected.wait(30)

        async def send() -> None:
            for kind, data in events:
                for name, socket in list(self._sockets.items()):
                    if client in (None, name) and not socket.closed:
                        await socket.send_json({"type": kind, "data": data})

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(30)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        ready.set()
        self._loop.run_forever()
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._decorate])
        self._routes(app)
        outer = app
        if self.prefix:
            outer = web.Application()
            outer.add_subapp(self.prefix, app)
        self._runner = web.AppRunner(outer, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}{self.prefix}/"

    @web.middleware
    async def _decorate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            response.headers.update(self.headers)
        return response

    def _routes(self, app: web.Application) -> None:
        both = [
            *self._start_routes(),
            *self._own_routes(),
            web.get("/{rest:(?!scripts|assets|extensions|fonts|cursor|internal).*}", self._absent),
            web.post("/{rest:.*}", self._absent),
        ]
        app.router.add_get("/", self._index)
        app.router.add_get("/ws", self._socket)
        app.router.add_static(f"/extensions/{PACK}", WEB)
        app.router.add_static("/api/workflow_templates/" + PACK, ROOT / "example_workflows")
        for route in both:
            api = web.RouteDef(route.method, "/api" + route.path, route.handler, {})
            app.add_routes([api])
        for name in ("scripts", "assets", "extensions", "fonts", "cursor"):
            if (self.frontend / name).is_dir():
                app.router.add_static("/" + name, self.frontend / name)
        app.add_routes(both[:-2])
        app.add_routes([web.get("/{rest:.*}", self._file)])

    def _start_routes(self) -> list[web.RouteDef]:
        def answer(value: Any) -> Any:
            async def handler(_request: web.Request) -> web.Response:
                return web.json_response(value() if callable(value) else value)

            return handler

        stats = {
            "system": {"os": "linux", "comfyui_version": "0.33.0", "python_version": "3.11",
                       "pytorch_version": "2",
                       "embedded_python": False, "argv": [], "ram_total": 1, "ram_free": 1},
            "devices": [],
        }  # fmt: skip
        return [
            web.get("/ws", self._socket),
            web.get("/extensions", answer([f"/extensions/{PACK}/lmbridge.js"])),
            web.get("/object_info", answer(lambda: self.nodes)),
            web.get("/settings", answer(lambda: self.settings)),
            web.post("/settings", self._save_settings),
            web.post("/settings/{id}", self._save_setting),
            web.get("/users", answer({"storage": "server", "migrated": True})),
            web.get("/system_stats", answer(stats)),
            web.get("/features", answer({"node_replacements": True})),
            web.get("/embeddings", answer([])),
            web.get("/models", answer([])),
            web.get("/experiment/models", answer([])),
            web.get("/global_subgraphs", answer({})),
            web.get("/workflow_templates", answer({PACK: [p.stem for p in _examples()]})),
            web.get("/i18n", answer(translations)),
            web.get("/node_replacements", answer(lambda: self.replacements)),
            web.get("/userdata", answer([])),
            web.get("/userdata/{file:.*}", self._read_userdata),
            web.post("/userdata/{file:.*}", self._write_userdata),
            web.get("/queue", answer(lambda: {"queue_running": self.running, "queue_pending": []})),
            web.get("/prompt", answer({"exec_info": {"queue_remaining": 0}})),
            web.post("/prompt", self._prompt),
            web.get("/history", answer({})),
            web.get("/history/{id}", self._history),
            web.get(
                "/jobs",
                answer({"jobs": [], "pagination": {"offset": 0, "limit": 0, "total": 0, "has_more": False}}),
            ),
            web.get("/jobs/{id}", self._job),
        ]

    def _own_routes(self) -> list[web.RouteDef]:
        return [
            web.get(
                "/lmbridge/session",
                self._own(lambda _: {"token": self.token}),
            ),
            web.get("/lmbridge/connections", self._own(lambda _: {"connections": self.connections})),
            web.get("/lmbridge/models", self._own(self._models)),
            web.get("/lmbridge/plugins", self._own(lambda _: {"plugins": self.plugins})),
            web.get("/lmbridge/errors", self._own(lambda _: {"errors": self.errors})),
            web.post("/lmbridge/{action:.+}", self._act),
        ]

    def _own(self, answer: Any) -> Any:
        async def handler(request: web.Request) -> web.Response:
            self.asked.append(request.path_qs)
            return web.json_response(answer(request))

        return handler

    def _models(self, request: web.Request) -> dict[str, Any]:
        name = request.query["connection"]
        none = {"models": [], "error": {"message": f"There is no connection {name!r}.", "hint": None}}
        return {"connection": name, "age_s": 0.0, "error": None} | self.models.get(name, none)

    async def _act(self, request: web.Request) -> web.Response:
        known = (
            request.headers.get("X-LMBridge-Token") == self.token
            and request.content_type == "application/json"
        )
        status = 200 if known else 403
        self.posted.append((request.match_info["action"], await request.json(), status))
        body: dict[str, Any] = (
            {"ok": True} if known else {"error": {"message": "Wrong token.", "hint": "Reload the page."}}
        )
        return web.json_response(body, status=status)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        name = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets[name] = socket
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": name}
        await socket.send_json({"type": "status", "data": status})
        async for message in socket:
            if message.type is WSMsgType.TEXT and json.loads(message.data).get("type") == "feature_flags":
                await socket.send_json({"type": "feature_flags", "data": {"node_replacements": True}})
                self._connected.set()
        if self._sockets.get(name) is socket:
            del self._sockets[name]
        return socket

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        body["prompt_id"] = body.get("prompt_id") or str(uuid.uuid4())
        self.prompts.append(body)
        return web.json_response(
            {"prompt_id": body["prompt_id"], "number": len(self.prompts), "node_errors": {}}
        )

    async def _job(self, request: web.Request) -> web.Response:
        for prompt in self.prompts:
            if prompt["prompt_id"] == request.match_info["id"]:
                workflow = prompt.get("extra_data", {}).get("extra_pnginfo", {}).get("workflow", {})
                return web.json_response({"id": prompt["prompt_id"], "workflow_id": workflow.get("id")})
        return web.json_response({"error": "Job not found"}, status=404)

    async def _history(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        return web.json_response({name: self.history[name]} if name in self.history else {})

    async def _save_settings(self, request: web.Request) -> web.Response:
        self.settings.update(await request.json())
        return web.Response()

    async def _save_setting(self, request: web.Request) -> web.Response:
        self.settings[request.match_info["id"]] = await request.json()
        return web.Response()

    async def _read_userdata(self, request: web.Request) -> web.Response:
        kept = self.userdata.get(request.match_info["file"])
        return web.Response(body=kept) if kept is not None else web.Response(status=404)

    async def _write_userdata(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        self.userdata[name] = await request.read()
        facts = {"path": name, "size": len(self.userdata[name]), "modified": 1, "created": 1}
        return web.json_response(facts)

    async def _index(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self.frontend / "index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self.frontend / request.match_info["rest"]
        return web.FileResponse(path) if path.is_file() else await self._absent(request)

    async def _absent(self, request: web.Request) -> web.Response:
        self.foreign.append(f"{request.method} {request.path}")
        return web.json_response({"error": "not served by the double"}, status=404)


def _examples() -> list[Path]:
    return sorted((ROOT / "example_workflows").glob("*.json"))


def translations() -> dict[str, Any]:
    """What ``GET /i18n`` gives of this pack: ``main.json`` at the top, the other files under their names."""
    result: dict[str, Any] = {}
    for folder in sorted(path for path in (ROOT / "locales").iterdir() if path.is_dir()):
        texts = json.loads((folder / "main.json").read_text(encoding="utf-8"))
        for name in ("nodeDefs", "commands", "settings"):
            texts[name] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        result[folder.name] = texts
    return result


def usual(frontend: Path, nodes: dict[str, Any]) -> Double:
    """A server with one connection that works, one that is down, and one that lists a single model."""
    away = {"message": "Nobody answers at 127.0.0.1:1234.", "hint": "Start LM Studio's server."}
    return Double(
        frontend=frontend,
        nodes=nodes,
        connections=[
            connection("lmstudio-rest", address="127.0.0.1:1234"),
            connection(
                "lmstudio-sdk", "down", why=away["message"], hint=away["hint"], address="127.0.0.1:1234"
            ),
            connection("openai-compat", address="192.168.1.5:8080"),
        ],
        models={
            "lmstudio-rest": {
                "models": [
                    model("qwen3-vl-4b", loaded=True, vision="yes", context_length=8192),
                    model("gpt-oss-20b", reasoning="yes", max_context_length=131072),
                    model("nomic-embed", kind="embedding"),
                ]
            },
            "lmstudio-sdk": {"models": [], "error": away},
            "openai-compat": {"models": [model("llama-3.2", vision="unknown")]},
        },
    )
