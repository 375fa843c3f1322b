/** The entries in a node's menu. */

import { answerIsKept, keepAnswer, releaseAnswer } from "./kept.mjs";
import { copy } from "./dom.mjs";
import { t } from "./texts.mjs";

/** @import { Node, MenuItem, ComfyApp } from "../../types/comfyui" */
/** @import { Nodes } from "./nodes.mjs" */

/**
 * @param {ComfyApp} app
 * @param {Nodes} nodes
 * @param {Node} node
 * @returns {(MenuItem | null)[]}
 */
export function menuItems(app, nodes, node) {
  const chat = node.comfyClass === "LMBridge_Chat";
  if (!chat && node.comfyClass !== "LMBridge_Models") return [];
  const transcript = nodes.shown(node);
  const usable = transcript?.phase === "done" && transcript.text !== "";
  const answer = [
    answerIsKept(node)
      ? { content: t("menu.release"), callback: () => after(nodes, node, releaseAnswer) }
      : { content: t("menu.keep"), disabled: !usable, callback: () => keep(app, nodes, node) },
    { content: t("menu.copy"), disabled: !transcript?.text, callback: () => void copy(transcript?.text ?? "") },
  ];
  return [
    null,
    ...(chat ? answer : []),
    { content: t("menu.type"), callback: () => void nodes.typeAName(node) },
    { content: t("menu.refresh"), callback: () => nodes.refresh(node) },
  ];
}

/**
 * @param {ComfyApp} app
 * @param {Nodes} nodes
 * @param {Node} node
 */
function keep(app, nodes, node) {
  const transcript = nodes.shown(node);
  const usable = transcript?.phase === "done" && transcript.text !== "";
  if (transcript && usable) after(nodes, node, () => keepAnswer(node, transcript));
  const detail = t(usable ? "notice.kept" : "notice.keep_nothing");
  app.extensionManager.toast.add({ severity: usable ? "success" : "warn", summary: "LM Bridge", detail, life: 5000 });
}

/**
 * @param {Nodes} nodes
 * @param {Node} node
 * @param {(node: Node) => void} change
 */
function after(nodes, node, change) {
  change(node);
  nodes.fillNode(node);
}
