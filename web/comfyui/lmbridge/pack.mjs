/** Everything put together: one extension of ComfyUI's frontend. */

import { rootGraph, workflowNames } from "./addressing.mjs";
import { Answers } from "./answers.mjs";
import { Catalog } from "./catalog.mjs";
import { Memory } from "./memory.mjs";
import { menuItems } from "./menu.mjs";
import { Nodes, ours } from "./nodes.mjs";
import { RouteError, Routes } from "./routes.mjs";
import { SETTINGS, settings } from "./settings.mjs";
import { Sidebar } from "./sidebar.mjs";
import { asText } from "./text.mjs";
import { t, useLanguage } from "./texts.mjs";
import { Ticker } from "./ticker.mjs";

/** @import { ComfyApi, ComfyApp, Extension } from "../../types/comfyui" */
/** @import { Transcript } from "./transcript.mjs" */

/** Look again at the connections of the open workflow after so many milliseconds. */
const LOOK = 30_000;

/**
 * @param {ComfyApp} app
 * @param {ComfyApi} api
 * @returns {Extension}
 */
export function extension(app, api) {
  const routes = new Routes(api);
  const catalog = new Catalog(routes);
  const ticker = new Ticker();
  let ready = false;
  /** @type {Nodes} */
  let nodes;
  const answers = new Answers(new Memory(storage()), surroundings(app, api, (node, transcript) => nodes.request(node, transcript)));
  nodes = new Nodes(app, { answers, catalog, ticker, stop: (transcript) => void stop(app, routes, transcript) });
  const sidebar = new Sidebar(catalog, routes);

  return {
    name: "lmbridge",
    settings: settings((id, value) => {
      if (id === SETTINGS.remember) remember(answers, value !== false);
      if (ready) nodes.refill(); // settings are announced before there is a graph
    }),
    commands: [
      { id: "lmbridge.RefreshModels", label: "Refresh the model lists", icon: "pi pi-refresh", function: () => look(nodes, catalog, true) },
      { id: "lmbridge.StopAnswers", label: "Stop all answers", icon: "pi pi-stop", function: () => stopAll(app, routes, answers) },
    ],
    menuCommands: [{ path: ["Extensions", "LM Bridge"], commands: ["lmbridge.RefreshModels", "lmbridge.StopAnswers"] }],
    async setup() {
      addStyles();
      await translate(app, api);
      addSidebar(app, sidebar);
      listen(api, answers, catalog, nodes, routes);
      ready = true;
      nodes.refill();
    },
    beforeConfigureGraph: (graph) => nodes.rememberOld(graph),
    nodeCreated: (node) => nodes.attach(node),
    loadedGraphNode: (node) => {
      if (ours(node)) void nodes.update(node);
    },
    afterConfigureGraph: () => answers.restore(),
    refreshComboInNodes: () => void look(nodes, catalog, true),
    getNodeMenuItems: (node) => menuItems(app, nodes, node),
  };
}

/**
 * @param {ComfyApp} app
 * @param {ComfyApi} api
 * @param {import("./answers.mjs").Surroundings["show"]} show
 * @returns {import("./answers.mjs").Surroundings}
 */
function surroundings(app, api, show) {
  const json = async (/** @type {string} */ path) => {
    const response = await api.fetchApi(path, { cache: "no-store" });
    return response.ok ? response.json() : null;
  };
  return {
    root: () => rootGraph(app),
    names: () => workflowNames(app),
    ours,
    show,
    openWorkflows: () => app.extensionManager.workflow?.openWorkflows?.length ?? 2,
    workflowOf: async (promptId) => asText((await json(`/jobs/${encodeURIComponent(promptId)}`))?.workflow_id) || null,
    history: async (promptId) => (await json(`/history/${encodeURIComponent(promptId)}`))?.[promptId] ?? null,
    underWay: async () => {
      const queue = await json("/queue");
      const items = [...queue.queue_running, ...queue.queue_pending];
      return new Set(items.map((item) => String(item[1])));
    },
    now: () => performance.now(),
  };
}

/**
 * @param {ComfyApi} api
 * @param {Answers} answers
 * @param {Catalog} catalog
 * @param {Nodes} nodes
 * @param {Routes} routes
 */
function listen(api, answers, catalog, nodes, routes) {
  // Without this page's word the server also sends the text in the way that needs no script.
  let announced = "";
  const announce = () => {
    if (!api.clientId || api.clientId === announced) return;
    announced = api.clientId;
    void routes.session(true).catch(() => {});
  };
  announce();
  // The socket gives this page its id, which may be after this.
  api.addEventListener("status", announce);
  api.addEventListener("lmbridge.update", (event) => answers.onUpdate(event.detail));
  api.addEventListener("executed", (event) => answers.onExecuted(event.detail));
  api.addEventListener("execution_success", (event) => answers.onPromptEnd("done", event.detail));
  api.addEventListener("execution_error", (event) => answers.onPromptEnd("failed", event.detail));
  api.addEventListener("execution_interrupted", (event) => answers.onPromptEnd("cancelled", event.detail));
  api.addEventListener("reconnected", () => {
    announced = ""; // the server may have been started again
    announce();
    catalog.expire();
    void answers.recover();
    void look(nodes, catalog, false);
  });
  // Models are loaded and unloaded by what runs.
  api.addEventListener("execution_success", () => {
    catalog.expire();
    void look(nodes, catalog, false);
  });
  window.addEventListener("pagehide", () => answers.save());
  window.addEventListener("focus", () => void look(nodes, catalog, false));
  window.setInterval(() => document.visibilityState === "visible" && void look(nodes, catalog, false), LOOK);
}

/**
 * @param {Nodes} nodes
 * @param {Catalog} catalog
 * @param {boolean} again
 */
async function look(nodes, catalog, again) {
  const used = nodes.each();
  if (used.length === 0 && !again) return;
  await Promise.all([catalog.check(again), ...used.map((node) => nodes.update(node, again))]);
}

/**
 * @param {ComfyApp} app
 * @param {Routes} routes
 * @param {Transcript} transcript
 */
async function stop(app, routes, transcript) {
  try {
    await routes.post("/lmbridge/stop", { prompt_id: transcript.promptId, node: transcript.executionId });
  } catch (error) {
    const detail = error instanceof RouteError ? error.whole : String(error);
    app.extensionManager.toast.add({ severity: "error", summary: t("notice.stop_failed"), detail, life: 8000 });
  }
}

/**
 * @param {ComfyApp} app
 * @param {Routes} routes
 * @param {Answers} answers
 */
async function stopAll(app, routes, answers) {
  await Promise.all(answers.running().map((transcript) => stop(app, routes, transcript)));
}

/**
 * @param {Answers} answers
 * @param {boolean} wanted
 */
function remember(answers, wanted) {
  answers.remember = wanted;
  if (!wanted) answers.memory.clear();
}

/**
 * @param {ComfyApp} app
 * @param {Sidebar} sidebar
 */
function addSidebar(app, sidebar) {
  app.extensionManager.registerSidebarTab({
    id: "lmbridge",
    icon: "lmbridge-sidebar-icon pi pi-comments",
    title: t("sidebar.title"),
    tooltip: t("sidebar.tooltip"),
    type: "custom",
    render: (container) => sidebar.render(container),
    destroy: () => sidebar.destroy(),
  });
}

/**
 * @param {ComfyApp} app
 * @param {ComfyApi} api
 */
async function translate(app, api) {
  const language = asText(app.extensionManager.setting.get("Comfy.Locale")) || "en";
  if (language === "en") return;
  try {
    useLanguage(await (await api.fetchApi("/i18n")).json(), language);
  } catch {
    // English is built in.
  }
}

function addStyles() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./lmbridge.css", import.meta.url).href;
  document.head.append(link);
}

/** @returns {Storage | null} */
function storage() {
  try {
    return window.sessionStorage;
  } catch {
    return null; // the browser forbids it
  }
}
