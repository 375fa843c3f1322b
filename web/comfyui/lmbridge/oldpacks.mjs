/**
 * Nodes of two older packs that ComfyUI replaces by ours: what its replacement cannot carry.
 *
 * The old nodes named a way of talking ("SDK", "REST API") and an address; ours names a connection. The address is
 * compared with those of the configured connections here; it never goes to the server.
 */

import { asText } from "./text.mjs";

/** @import { Connection } from "./catalog.mjs" */

/** Old node types, and the providers that talk as they did, best first. @type {Record<string, string[]>} */
const OLD = {
  LMStudio_Unified_Chat: ["lmstudio-rest", "lmstudio-sdk", "openai-compat"],
  XDEV_LMStudioChat: ["openai-compat", "lmstudio-rest", "lmstudio-sdk"],
};
/** @type {Record<string, string>} */
const WAYS = { SDK: "lmstudio-sdk", "REST API": "lmstudio-rest" };
/**
 * Widgets of the first, in the order in which they were saved. With "REST API" the address stands behind the way, and
 * shifts the rest: ComfyUI, which goes by position, then takes the wrong values.
 */
const UNIFIED = ["system_prompt", "prompt", "model", "way", "json_schema", "seed", "control", "temperature", "max_tokens"];
/** Those of them that stand behind the address and have a place in our node. */
const SHIFTED = ["seed", "temperature", "max_tokens"];

/** What their model lists said while they had no model. */
const NO_MODEL = new Set(["Loading models from LM Studio...", "LM Studio offline"]);

/**
 * @param {unknown} model
 * @returns {boolean} whether an old node saved this without a model to choose
 */
export function isNoModel(model) {
  return model === "" || (typeof model === "string" && NO_MODEL.has(model));
}

/**
 * @typedef {object} Old
 * @property {string} type
 * @property {string} way "SDK", "REST API" or ""
 * @property {string} server the address, or ""
 * @property {Record<string, number>} values by our widgets' names, where ComfyUI's replacement takes wrong ones
 */

/**
 * The old nodes of a workflow as saved, by node id.
 * @param {any} graph
 * @returns {Map<string, Old>}
 */
export function oldNodes(graph) {
  const found = new Map();
  const graphs = [graph, ...(Array.isArray(graph?.definitions?.subgraphs) ? graph.definitions.subgraphs : [])];
  for (const node of graphs.flatMap((each) => (Array.isArray(each?.nodes) ? each.nodes : []))) {
    if (!Object.hasOwn(OLD, asText(node?.type))) continue;
    const values = Object.values(node.widgets_values ?? {}).map(asText);
    const way = values.find((value) => Object.hasOwn(WAYS, value)) ?? "";
    const server = values.find((value) => /^https?:\/\/\S+$/i.test(value)) ?? "";
    found.set(String(node.id), { type: node.type, way, server, values: shifted(node, way) });
  }
  return found;
}

/**
 * @param {any} node
 * @param {string} way
 * @returns {Record<string, number>}
 */
function shifted(node, way) {
  const saved = node.widgets_values;
  if (node.type !== "LMStudio_Unified_Chat" || way !== "REST API" || !Array.isArray(saved)) return {};
  const behind = saved.indexOf(way) + 2;
  const names = UNIFIED.slice(UNIFIED.indexOf("way") + 1);
  const values = names.map((name, position) => [name, saved[behind + position]]);
  return Object.fromEntries(values.filter(([name, value]) => SHIFTED.includes(name) && typeof value === "number"));
}

/**
 * Whether a connection's value is one that only an old node can have given it.
 * @param {string} value
 */
export function isOldValue(value) {
  return Object.hasOwn(WAYS, value) || /^https?:\/\//i.test(value);
}

/**
 * @param {string} value what the replacement put into our connection widget
 * @param {Old | undefined} old the node as it was saved
 * @param {Connection[]} connections
 * @returns {{ connection: string | null, server: string }} the connection, or null and the address that has none
 */
export function connectionFor(value, old, connections) {
  const way = Object.hasOwn(WAYS, value) ? value : (old?.way ?? "");
  const server = /^https?:\/\//i.test(value) ? value : (old?.server ?? "");
  const preferred = [WAYS[way] ?? "", ...(OLD[old?.type ?? ""] ?? Object.values(WAYS))].filter(Boolean);
  const rank = (/** @type {Connection} */ each) => (preferred.indexOf(each.provider) + 100) % 100;
  const candidates = connections
    .filter((each) => preferred.includes(each.provider))
    .sort((a, b) => rank(a) - rank(b) || Number(b.name === b.provider) - Number(a.name === a.provider));
  // The SDK nodes named no address: they always talked to this machine.
  if (!server) return { connection: candidates[0]?.name ?? null, server: "" };
  const wanted = place(server);
  const found = candidates.find((each) => place(each.address ?? "") === wanted);
  return { connection: found?.name ?? null, server };
}

/**
 * Host and port in one form.
 * @param {string} address
 * @returns {string}
 */
function place(address) {
  try {
    const url = new URL(/^https?:\/\//i.test(address) ? address : `http://${address}`);
    const host = ["localhost", "[::1]"].includes(url.hostname) ? "127.0.0.1" : url.hostname;
    return `${host}:${url.port || (url.protocol === "https:" ? "443" : "80")}`;
  } catch {
    return "";
  }
}
