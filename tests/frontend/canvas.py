"""A page with ComfyUI's frontend, in the words of a test."""

from __future__ import annotations

from typing import Any

READY = """() => {
  try { return Boolean(app.rootGraph) && lmbridgeReady(); }
  catch { return false; }
}"""
# The extension is there once its sidebar tab is.
HELPERS = """
window.lmbridgeReady = () => app.extensionManager.getSidebarTabs().some((tab) => tab.id === "lmbridge");
window.nodeAt = (path) => {
  let graph = app.rootGraph, node = null;
  for (const id of String(path).split(":")) {
    node = graph.getNodeById(id) ?? graph.getNodeById(Number(id));
    graph = node.subgraph;
  }
  return node;
};
window.widgetAt = (path, name) => nodeAt(path).widgets.find((widget) => widget.name === name);
"""


class Canvas:
    """One page, and what went wrong on it."""

    def __init__(self, page: Any, double: Any) -> None:
        self.page = page
        self.double = double
        self.problems: list[str] = []
        page.set_default_timeout(30_000)
        page.add_init_script(HELPERS)
        page.on("pageerror", self._on_error)
        page.on("console", self._on_console)

    def _on_error(self, error: Any) -> None:
        told = f"{error} {getattr(error, 'stack', '')}"
        if "lmbridge" in told:  # the frontend has errors of its own, without the services that it phones
            self.problems.append(told)

    def _on_console(self, message: Any) -> None:
        place = str((message.location or {}).get("url", ""))
        if message.type in {"error", "warning"} and ("lmbridge" in place or "lmbridge" in message.text):
            self.problems.append(f"{message.text} ({place})")

    def open(self) -> None:
        self.page.goto(self.double.url)
        self.ready()

    def reload(self) -> None:
        self.page.reload()
        self.ready()

    def ready(self) -> None:
        """Wait for our script, and for the workflow that the page opens by itself."""
        self.page.wait_for_function(READY)
        opened = (
            "app.extensionManager.workflow.activeWorkflow && app.rootGraph.id && app.rootGraph.nodes.length"
        )
        self.page.wait_for_function(f"() => {opened}")

    def clear(self) -> None:
        self.page.evaluate("() => app.rootGraph.clear()")

    def load(self, workflow: dict[str, Any], name: str = "") -> None:
        self.page.evaluate("([w, name]) => app.loadGraphData(w, true, true, name || null)", [workflow, name])
        self.page.wait_for_function("(n) => app.rootGraph.nodes.length === n", arg=len(workflow["nodes"]))

    def switch(self, name: str) -> None:
        """Click the tab of a workflow that is open."""
        self.page.locator(".workflow-label", has_text=name).first.click()
        self.page.wait_for_function(
            "(name) => app.extensionManager.workflow.activeWorkflow?.path.includes(name)", arg=name
        )

    def chat(self, **values: Any) -> str:
        """Add one chat node, alone on the canvas, and give its id."""
        made = self.page.evaluate(
            """(values) => {
              app.rootGraph.clear();
              const node = LiteGraph.createNode("LMBridge_Chat");
              app.rootGraph.add(node);
              node.pos = [60, 60];
              for (const [name, value] of Object.entries(values)) {
                const widget = node.widgets.find((each) => each.name === name);
                widget.value = value;
                widget.callback?.(value);
              }
              app.canvas.ds.offset = [40, 40]; app.canvas.ds.scale = 1; app.canvas.setDirty(true, true);
              return String(node.id);
            }""",
            values,
        )
        self.page.wait_for_selector(".lmbridge-panel", state="visible")
        return str(made)

    @property
    def workflow(self) -> str:
        return str(self.page.evaluate("() => app.rootGraph.id"))

    def update(self, node: str, seq: int, prompt: str = "p1", **fields: Any) -> dict[str, Any]:
        """The data of one `lmbridge.update`."""
        usual = {
            "prompt_id": prompt, "node": node, "display_node": node,
            "workflow_id": self.workflow, "index": 0, "seq": seq,
            "phase": "answering", "fraction": None, "reasoning": "", "text": "", "tokens": None,
            "tokens_per_second": None, "elapsed": seq / 10, "message": None,
        }  # fmt: skip
        return usual | fields

    def stream(self, node: str, *updates: dict[str, Any], prompt: str = "p1", first: int = 0) -> None:
        """Send updates, numbered from `first`."""
        numbered = [self.update(node, first + n, prompt, **fields) for n, fields in enumerate(updates)]
        self.double.send_many([("lmbridge.update", data) for data in numbered])

    def executed(self, node: str, *finals: dict[str, Any], prompt: str = "p1") -> None:
        output = {
            "lmbridge": [
                {"reasoning": "", "model": "m", "connection": "c", "stats": {}, "notes": []} | f
                for f in finals
            ]
        }
        data = {"node": node, "display_node": node, "output": output, "prompt_id": prompt}
        self.double.send("executed", data)

    def text(self, selector: str, at: int = 0) -> str:
        return str(self.page.locator(selector).nth(at).text_content() or "")

    def wait_text(self, selector: str, wanted: str, at: int = 0) -> None:
        """Wait until the element's text contains what is wanted."""
        self.page.wait_for_function(
            "([s, wanted, at]) => (document.querySelectorAll(s)[at]?.textContent ?? '').includes(wanted)",
            arg=[selector, wanted, at],
        )

    def widget(self, node: str, name: str) -> Any:
        return self.page.evaluate("([id, name]) => widgetAt(id, name).value", [node, name])

    def options(self, node: str, name: str) -> dict[str, str]:
        """The values that a dropdown offers, with the labels that it shows."""
        pairs = self.page.evaluate(
            """([id, name]) => {
              const { values, getOptionLabel } = widgetAt(id, name).options;
              return values.map((value) => [value, getOptionLabel ? getOptionLabel(value) : value]);
            }""",
            [node, name],
        )
        return dict(pairs)

    def choose(self, node: str, name: str, value: Any) -> None:
        """Choose as the dropdown does: set the value, then call back."""
        self.page.evaluate(
            "([id, name, value]) => { const w = widgetAt(id, name); w.value = value; w.callback?.(value); }",
            [node, name, value],
        )

    def prompt_inputs(self, node: str) -> dict[str, Any]:
        """What the node would send to the server if it were queued now."""
        return dict(self.page.evaluate("async (id) => (await app.graphToPrompt()).output[id].inputs", node))

    def saved(self) -> dict[str, Any]:
        """The workflow as a file would hold it."""
        return dict(self.page.evaluate("() => JSON.parse(JSON.stringify(app.rootGraph.serialize()))"))
