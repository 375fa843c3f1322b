/** "Keep this answer": the user's own choice to store an answer with the node, and so in the workflow. */

import { widgetOf } from "./picker.mjs";
import { asText } from "./text.mjs";

/** @import { Node } from "../../types/comfyui" */
/** @import { Transcript } from "./transcript.mjs" */

const PROPERTY = "lmbridge_kept";
const KEEP = "keep this answer";

/**
 * @typedef {object} Kept
 * @property {string} text
 * @property {string} model
 * @property {string} connection
 */

/**
 * The widget that carries the answer to the server is no field to type in: it is hidden, stays empty in the saved
 * workflow, and is filled from the node's properties when the workflow is queued.
 * @param {Node} node
 */
export function hideCarrier(node) {
  const widget = widgetOf(node, "kept_answer");
  if (!widget) return;
  widget.hidden = true;
  widget.options.hidden = true;
  widget.computeSize = () => [0, -4];
  widget.serializeValue = () => {
    const kept = keptAnswer(node);
    return kept ? JSON.stringify(kept) : "";
  };
}

/**
 * @param {Node} node
 * @returns {Kept | null}
 */
export function keptAnswer(node) {
  /** @type {any} */
  const saved = node.properties?.[PROPERTY];
  const text = asText(saved?.text);
  return text ? { text, model: asText(saved.model), connection: asText(saved.connection) } : null;
}

/**
 * @param {Node} node
 * @param {Transcript} transcript
 */
export function keepAnswer(node, transcript) {
  const { text, model, connection } = transcript;
  node.properties ??= {};
  node.properties[PROPERTY] = {
    text,
    model: model || asText(widgetOf(node, "model")?.value),
    connection: connection || asText(widgetOf(node, "connection")?.value),
  };
  setRerun(node, KEEP);
}

/** @param {Node} node */
export function releaseAnswer(node) {
  if (node.properties) delete node.properties[PROPERTY];
  const widget = widgetOf(node, "rerun");
  const first = Array.isArray(widget?.options.values) ? widget.options.values[0] : null;
  if (widget?.value === KEEP && typeof first === "string") setRerun(node, first);
}

/**
 * @param {Node} node
 * @param {string} value
 */
function setRerun(node, value) {
  const widget = widgetOf(node, "rerun");
  if (!widget) return;
  widget.value = value;
  widget.callback?.(value);
}

/**
 * Whether the kept answer is what the node gives.
 * @param {Node} node
 * @returns {boolean}
 */
export function answerIsKept(node) {
  return keptAnswer(node) !== null && widgetOf(node, "rerun")?.value === KEEP;
}
