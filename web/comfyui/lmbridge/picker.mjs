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

/**
 * @typedef {object} Offer  what a dropdown offers now
 * @property {string[]} values
 * @property {(value: string) => string} label
 * @property {string} shown values and labels, to leave the dropdown alone while nothing changes
 * @property {(value: string | null) => string} getOptionLabel
 */

/** @type {WeakMap<Widget, Offer>} */
const offers = new WeakMap();

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
  const connections = catalog.connections ?? [];
  const states = new Map(connections.map((each) => [each.name, each.state]));
  const names = catalog.connections ? [...states.keys()] : namesOf(widget.options.values);
  setOptions(widget, withSaved(names, widget.value), (value) => {
    if (!catalog.connections) return plain(value);
    if (!states.has(value)) return `⚠ ${plain(value)} (${t("model.missing")})`;
    return states.get(value) === "down" ? `${plain(value)} (${t("state.down")})` : plain(value);
  });
}

/**
 * @param {unknown} values
 * @returns {string[]}
 */
function namesOf(values) {
  return Array.isArray(values) ? values.map(String) : [];
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
 * Nodes 2.0 copies the options of a widget: older frontends once, so that only what is in the same list gets there;
 * newer ones when the widget gets other options. So the list stays the same one, in options that are new.
 * @param {Widget} widget
 * @param {string[]} values
 * @param {(value: string) => string} label
 */
function setOptions(widget, values, label) {
  const offer = offerOf(widget);
  const shown = JSON.stringify(values.map((value) => [value, label(value)]));
  const { values: now } = widget.options;
  if (offer.shown === shown && Array.isArray(now) && now.length === values.length) return;
  Object.assign(offer, { shown, label });
  offer.values.splice(0, offer.values.length, ...values);
  widget.options = { ...widget.options, values: offer.values, getOptionLabel: offer.getOptionLabel };
}

/**
 * @param {Widget} widget
 * @returns {Offer}
 */
function offerOf(widget) {
  const known = offers.get(widget);
  if (known) return known;
  /** @type {Offer} */
  const offer = {
    values: [],
    label: (value) => value,
    shown: "",
    // The frontend asks with null where nothing is chosen.
    getOptionLabel: (value) => (value ? offer.label(value) : ""),
  };
  offers.set(widget, offer);
  const { values, getOptionLabel } = offer;
  Object.assign(widget.options, { values, getOptionLabel });
  return offer;
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
