/**
 * From the ids in ComfyUI's messages to nodes and back.
 *
 * An execution id is a path: "7" in the root graph, "12:3:5" for node 5 in the subgraph of node 3 in the subgraph of
 * node 12. One subgraph used twice is one set of nodes with two execution ids each.
 */

/** @import { ComfyApp, Graph, Node } from "../../types/comfyui" */

/**
 * @param {ComfyApp} app
 * @returns {Graph | null}
 */
export function rootGraph(app) {
  try {
    return app.rootGraph ?? app.graph ?? null;
  } catch {
    return null; // the getter throws before the first graph
  }
}

/** What a graph that was emptied has instead of an id. */
const NO_ID = "00000000-0000-0000-0000-000000000000";

/**
 * @param {unknown} id of a workflow
 * @returns {string} "" if it tells nothing
 */
export function realId(id) {
  return typeof id === "string" && id !== NO_ID ? id : "";
}

/**
 * Names of the open workflow, the best first: its id, then its place among the open ones. A workflow without an id gets
 * one when it is loaded again, and is then known by its place.
 * @param {ComfyApp} app
 * @returns {string[]}
 */
export function workflowNames(app) {
  const path = app.extensionManager.workflow?.activeWorkflow?.path;
  return [realId(rootGraph(app)?.id), path ? `path:${path}` : ""].filter(Boolean);
}

/**
 * @param {Graph} graph
 * @param {string} id
 * @returns {Node | null}
 */
function nodeById(graph, id) {
  // Ids were numbers, and are strings in newer frontends.
  return graph.getNodeById(id) ?? graph.getNodeById(Number(id)) ?? null;
}

/**
 * @param {Graph} root
 * @param {string} executionId
 * @returns {Node | null}
 */
export function byExecutionId(root, executionId) {
  const parts = executionId.split(":");
  let graph = root;
  for (const part of parts.slice(0, -1)) {
    const inner = nodeById(graph, part)?.subgraph;
    if (!inner) return null;
    graph = inner;
  }
  return nodeById(graph, parts[parts.length - 1] ?? "");
}

/**
 * The titles of the subgraphs that the path leads through, outermost first.
 * @param {Graph} root
 * @param {string} executionId
 * @returns {string[]}
 */
export function hostTitles(root, executionId) {
  const titles = [];
  let graph = root;
  for (const part of executionId.split(":").slice(0, -1)) {
    const host = nodeById(graph, part);
    if (!host?.subgraph) break;
    titles.push(`${host.title || part} #${part}`);
    graph = host.subgraph;
  }
  return titles;
}

/**
 * Every node of the graph and of its subgraphs, each once.
 * @param {Graph} root
 * @returns {Generator<Node>}
 */
export function* allNodes(root) {
  /** @type {Set<Graph>} */
  const seen = new Set();
  const waiting = [root];
  for (let graph = waiting.pop(); graph; graph = waiting.pop()) {
    if (seen.has(graph)) continue;
    seen.add(graph);
    for (const node of graph.nodes ?? graph._nodes ?? []) {
      yield node;
      if (node.subgraph) waiting.push(node.subgraph);
    }
  }
}
