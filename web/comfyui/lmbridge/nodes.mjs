/** Our nodes on the canvas: each gets its panel and its dropdowns. */

import { hostTitles, rootGraph, allNodes } from "./addressing.mjs";
import { copy } from "./dom.mjs";
import { answerIsKept, hideCarrier } from "./kept.mjs";
import { connectionFor, isNoModel, isOldValue, oldNodes } from "./oldpacks.mjs";
import { Panel } from "./panel.mjs";
import { AUTOMATIC, fill, typeAName, TYPE_A_NAME, widgetOf } from "./picker.mjs";
import { SETTINGS } from "./settings.mjs";
import { asText } from "./text.mjs";
import { t } from "./texts.mjs";

/** @import { ComfyApp, Node, Widget } from "../../types/comfyui" */
/** @import { Answers } from "./answers.mjs" */
/** @import { Catalog } from "./catalog.mjs" */
/** @import { Ticker } from "./ticker.mjs" */
/** @import { Transcript } from "./transcript.mjs" */

/** The nodes that get a panel. */
const OURS = new Set(["LMBridge_Chat", "LMBridge_Models"]);
/** Of the panel, in a node that is made anew. */
const WIDTH = 380;
const PANEL_HEIGHT = 220;
const LEAST_HEIGHT = 150;

/** @param {Node} node */
export function ours(node) {
  return OURS.has(node.comfyClass ?? "");
}

export class Nodes {
  /**
   * @param {ComfyApp} app
   * @param {{ answers: Answers, catalog: Catalog, ticker: Ticker, stop: (transcript: Transcript) => void }} parts
   */
  constructor(app, parts) {
    this.app = app;
    this.parts = parts;
    /** @type {WeakMap<Node, Panel>} */
    this.panels = new WeakMap();
    /** The model before *Type a name…*. @type {WeakMap<Node, string>} */
    this.models = new WeakMap();
    /** @type {ReturnType<typeof oldNodes>} */
    this.old = new Map();
    parts.catalog.watch(() => this.refill());
  }

  /** @param {Node} node */
  attach(node) {
    if (!ours(node) || this.panels.has(node)) return;
    const panel = new Panel({
      stop: (transcript) => this.parts.stop(transcript),
      copy: (transcript) => copy(transcript.text),
      refresh: () => this.refresh(node),
      label: (transcript, all) => this.label(transcript, all),
      markdown: (text) => this.markdown(text),
      openThinking: () => this.setting(SETTINGS.thinking) === true,
    });
    this.panels.set(node, panel);
    this.addPanel(node, panel);
    this.listen(node);
    hideCarrier(node);
    void this.update(node);
  }

  /**
   * Behind all value widgets: a widget that is not saved must not stand between saved ones, which are saved by position.
   * @param {Node} node
   * @param {Panel} panel
   */
  addPanel(node, panel) {
    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => LEAST_HEIGHT, getValue: () => "", setValue: () => {} };
    const widget = node.addDOMWidget("lmbridge_answer", "lmbridge_answer", panel.element, options);
    widget.serialize = false;
    const [width, height] = node.computeSize?.() ?? node.size;
    node.setSize?.([Math.max(width, WIDTH), height + PANEL_HEIGHT - LEAST_HEIGHT]);
  }

  /** @param {Node} node */
  listen(node) {
    const connection = widgetOf(node, "connection");
    const model = widgetOf(node, "model");
    if (connection) follow(connection, () => this.onConnection(node, connection));
    if (model) follow(model, () => this.onModel(node, model));
    const rerun = widgetOf(node, "rerun");
    if (rerun) follow(rerun, () => this.request(node));
    const before = node.onConnectionsChange;
    node.onConnectionsChange = (...details) => {
      const result = before?.apply(node, details);
      this.fillNode(node);
      return result;
    };
    const removed = node.onRemoved;
    node.onRemoved = (...details) => {
      const panel = this.panels.get(node);
      if (panel) this.parts.ticker.forget(panel);
      return removed?.apply(node, details);
    };
  }

  /**
   * @param {Node} node
   * @param {Widget} connection
   */
  onConnection(node, connection) {
    if (isOldValue(asText(connection.value))) void this.adopt(node, connection);
    else void this.update(node);
  }

  /**
   * @param {Node} node
   * @param {Widget} model
   */
  onModel(node, model) {
    if (model.value !== TYPE_A_NAME) {
      this.models.set(node, asText(model.value));
      this.fillNode(node);
      return;
    }
    const before = this.models.get(node) ?? "";
    model.value = before; // so that nothing saves the entry itself
    void this.typeAName(node, before);
  }

  /**
   * @param {Node} node
   * @param {string} [before]
   */
  async typeAName(node, before) {
    const model = widgetOf(node, "model");
    if (!model) return;
    const { dialog } = this.app.extensionManager;
    const value = await typeAName(model, (options) => dialog.prompt(options), before ?? asText(model.value));
    this.models.set(node, value);
    this.fillNode(node);
  }

  /**
   * A node that took the place of an old pack's: from a way and an address to a connection.
   * @param {Node} node
   * @param {Widget} connection
   */
  async adopt(node, connection) {
    const value = asText(connection.value);
    const old = this.old.get(String(node.id));
    await this.parts.catalog.check();
    repair(node, old?.values ?? {});
    const found = connectionFor(value, old, this.parts.catalog.connections ?? []);
    const { toast } = this.app.extensionManager;
    if (found.connection) {
      connection.value = found.connection;
      const detail = t("notice.old_mapped", { old: [old?.way || value, found.server].join(" ").trim(), connection: found.connection });
      toast.add({ severity: "info", summary: "LM Bridge", detail, life: 10_000 });
    } else {
      const detail = t("notice.old_server", { server: found.server || value });
      toast.add({ severity: "warn", summary: "LM Bridge", detail });
    }
    void this.update(node);
  }

  /** @param {unknown} graph as it was saved */
  rememberOld(graph) {
    this.old = oldNodes(graph);
  }

  /**
   * Fill the dropdowns now, and again when the server has answered.
   * @param {Node} node
   * @param {boolean} [again]
   */
  async update(node, again = false) {
    this.fillNode(node);
    const name = asText(widgetOf(node, "connection")?.value);
    const { catalog } = this.parts;
    await Promise.all([catalog.check(again), isOldValue(name) ? null : catalog.list(name, again)]);
  }

  /** @param {Node} node */
  refresh(node) {
    void this.update(node, true);
  }

  refill() {
    for (const node of this.each()) this.fillNode(node);
  }

  /** @param {Node} node */
  fillNode(node) {
    const model = asText(widgetOf(node, "model")?.value);
    if (model && model !== TYPE_A_NAME) this.models.set(node, model);
    fill(node, this.parts.catalog, { visionOnly: this.imageConnected(node) && this.setting(SETTINGS.visionOnly) !== false });
    node.setDirtyCanvas?.(true, true);
    this.request(node);
  }

  /** @param {Node} node */
  imageConnected(node) {
    const slot = node.inputs?.findIndex((input) => input.name === "image") ?? -1;
    if (slot < 0) return false;
    return node.isInputConnected ? node.isInputConnected(slot) : node.inputs?.[slot]?.link != null;
  }

  /** @returns {Node[]} ours, of the open workflow, in all its subgraphs */
  each() {
    const root = rootGraph(this.app);
    return root ? [...allNodes(root)].filter((node) => this.panels.has(node)) : [];
  }

  /**
   * @param {Node} node
   * @param {Transcript} [latest] what changed
   */
  request(node, latest) {
    const panel = this.panels.get(node);
    if (!panel) return;
    if (latest) panel.latest = latest;
    this.parts.ticker.request(panel, () => this.draw(node, panel));
  }

  /**
   * @param {Node} node
   * @param {Panel} panel
   */
  draw(node, panel) {
    panel.offer(this.parts.answers.of(node));
    panel.view = this.parts.catalog.view(asText(widgetOf(node, "connection")?.value), asText(widgetOf(node, "model")?.value));
    panel.kept = answerIsKept(node) ? t("panel.kept") : "";
    panel.draw();
  }

  /**
   * Which use of the subgraph, and which item of the list.
   * @param {Transcript} transcript
   * @param {Transcript[]} all of the same node
   * @returns {string}
   */
  label(transcript, all) {
    const root = rootGraph(this.app);
    const hosts = root ? hostTitles(root, transcript.executionId) : [];
    const items = all.filter((each) => each.executionId === transcript.executionId);
    const item = t("panel.item", { number: items.indexOf(transcript) + 1 });
    return [...hosts, ...(hosts.length === 0 || items.length > 1 ? [item] : [])].join(" · ");
  }

  /** @param {Node} node */
  shown(node) {
    return this.panels.get(node)?.chosen ?? null;
  }

  /**
   * @param {string} text
   * @returns {string | null}
   */
  markdown(text) {
    if (this.setting(SETTINGS.markdown) !== true || text.length > 100_000) return null;
    return this.app.extensionManager.renderMarkdownToHtml?.(text) ?? null;
  }

  /** @param {string} id */
  setting(id) {
    return this.app.extensionManager.setting.get(id);
  }
}

/**
 * What ComfyUI's replacement got wrong, or could not know.
 * @param {Node} node
 * @param {Record<string, number>} values
 */
function repair(node, values) {
  for (const [name, number] of Object.entries(values)) {
    const widget = widgetOf(node, name);
    if (widget) widget.value = number;
  }
  const model = widgetOf(node, "model");
  if (model && isNoModel(model.value)) model.value = AUTOMATIC;
  const preset = widgetOf(node, "preset");
  const presets = preset?.options.values;
  if (preset && Array.isArray(presets) && !presets.includes(preset.value)) preset.value = presets[0];
}

/**
 * Call after the widget's own callback.
 * @param {Widget} widget
 * @param {() => void} after
 */
function follow(widget, after) {
  const before = widget.callback;
  widget.callback = (...details) => {
    const result = before?.apply(widget, details);
    after();
    return result;
  };
}
