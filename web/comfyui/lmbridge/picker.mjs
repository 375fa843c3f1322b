/** The dropdowns for connection and model. A saved value is never changed; one that nobody knows is kept and marked. */

import { facts } from "./catalog.mjs";
import { visible } from "./text.mjs";
import { t } from "./texts.mjs";

/** @import { Catalog, Model } from "./catalog.mjs" */
/** @import { Node, Widget } from "../../types/comfyui" */

/** The model entry that leaves the choice to the connection; the node's own default. */
export const AUTOMATIC = "automatic";
/** The entry that opens the dialog; the server refuses it as a model's name. */
export const TYPE_A_NAME = "Type a name…";

/** What each dropdown offers now, to leave it alone while nothing changes. @type {WeakMap<Widget, string>} */
const shown = new WeakMap();

/**
 * @param {Node} node
 * @param {string} name
 * @returns {Widget | undefined}
 */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/**
 * Fill both dropdowns from what the catalog knows now.
 * @param {Node} node
 * @param {Catalog} catalog
 * @param {{ visionOnly: boolean }} options
 */
export function fill(node, catalog, { visionOnly }) {
  const connection = widgetOf(node, "connection");
  const model = widgetOf(node, "model");
  if (connection) fillConnections(connection, catalog);
  if (!connection || !model) return;
  const listing = catalog.listings.get(String(connection.value));
  const wanted = (listing?.models ?? []).filter((each) => each.kind !== "embedding" && !(visionOnly && each.vision === "no"));
  fillModels(model, wanted, listing?.models ?? []);
}

/**
 * @param {Widget} widget
 * @param {Catalog} catalog
 */
function fillConnections(widget, catalog) {
  if (!catalog.connections) return;
  const names = catalog.connections.map((each) => each.name);
  const states = new Map(catalog.connections.map((each) => [each.name, each.state]));
  setOptions(widget, withSaved(names, widget.value), (value) => {
    if (!states.has(value)) return `⚠ ${plain(value)} (${t("model.missing")})`;
    return states.get(value) === "down" ? `${plain(value)} (${t("state.down")})` : plain(value);
  });
}

/**
 * @param {Widget} widget
 * @param {Model[]} offered
 * @param {Model[]} known
 */
function fillModels(widget, offered, known) {
  const byId = new Map(known.map((model) => [model.id, model]));
  const ids = [AUTOMATIC, ...offered.map((model) => model.id)];
  const values = [...withSaved(ids, widget.value), TYPE_A_NAME];
  const knowing = known.length > 0;
  setOptions(widget, values, (value) => modelLabel(value, byId.get(value), knowing));
}

/**
 * @param {string} value
 * @param {Model | undefined} model
 * @param {boolean} knowing whether the server has told its models
 */
function modelLabel(value, model, knowing) {
  if (value === TYPE_A_NAME) return t("model.type");
  if (value === AUTOMATIC) return t("model.automatic");
  if (model) return [plain(value), facts(model)].filter(Boolean).join(" · ");
  return knowing ? `⚠ ${plain(value)} (${t("model.unknown")})` : plain(value);
}

/**
 * Labels end up in menus; older frontends put them there as HTML.
 * @param {string} value
 */
function plain(value) {
  return visible(value).replaceAll("<", "‹").replaceAll(">", "›").replaceAll("&", "＆");
}

/**
 * @param {string[]} values
 * @param {unknown} saved
 * @returns {string[]}
 */
function withSaved(values, saved) {
  const unique = [...new Set(values)];
  if (typeof saved !== "string" || saved === "" || saved === TYPE_A_NAME || unique.includes(saved)) return unique;
  return [saved, ...unique];
}

/**
 * @param {Widget} widget
 * @param {string[]} values
 * @param {(value: string) => string} label
 */
function setOptions(widget, values, label) {
  const offered = JSON.stringify(values.map((value) => [value, label(value)]));
  if (shown.get(widget) === offered && Array.isArray(widget.options.values) && widget.options.values.length === values.length) {
    return;
  }
  shown.set(widget, offered);
  // A new object: Nodes 2.0 does not see what changes in the one that it knows. It asks with null where nothing is chosen.
  widget.options = { ...widget.options, values, getOptionLabel: (value) => (value ? label(value) : "") };
}

/**
 * Open the dialog in which any model can be named.
 * @param {Widget} model
 * @param {(options: { title: string, message: string, defaultValue: string }) => Promise<string | null>} prompt
 * @param {string} before the value to go back to
 * @returns {Promise<string>} the value from now on
 */
export async function typeAName(model, prompt, before) {
  const title = t("model.type_title");
  const typed = await prompt({ title, message: t("model.type_message"), defaultValue: before === AUTOMATIC ? "" : before });
  const value = typed?.trim() || before;
  model.value = value;
  return value;
}
