/** What the server knows of connections and models, remembered for a while. */

import { asText } from "./text.mjs";
import { short, t } from "./texts.mjs";

/** @import { Routes } from "./routes.mjs" */

/**
 * @typedef {object} Connection
 * @property {string} name
 * @property {string} provider
 * @property {"up" | "down" | "unknown"} state
 * @property {string | null} [why]
 * @property {string | null} [hint]
 * @property {string | null} [address]
 *
 * @typedef {object} Model
 * @property {string} id
 * @property {string} [name]
 * @property {string} [kind]
 * @property {boolean} [loaded]
 * @property {string} [vision] yes, no or unknown; likewise `reasoning` and `tools`
 * @property {string} [reasoning]
 * @property {string} [tools]
 * @property {number | null} [context_length] of the loaded instance
 * @property {number | null} [max_context_length]
 *
 * @typedef {object} Listing
 * @property {Model[]} models
 * @property {{ message: string, hint?: string | null } | null} error
 *
 * @typedef {object} ConnectionView  what a node shows of its connection
 * @property {string} name
 * @property {"up" | "down" | "unknown" | "missing" | "checking"} state
 * @property {string} facts
 * @property {string} why
 */

/** Asked again after so many milliseconds. */
const FRESH = 30_000;

export class Catalog {
  /**
   * @param {Routes} routes
   * @param {() => number} now
   */
  constructor(routes, now = () => performance.now()) {
    this.routes = routes;
    this.now = now;
    /** @type {Connection[] | null} null before the first answer */
    this.connections = null;
    /** @type {Map<string, Listing>} */
    this.listings = new Map();
    /** @type {Map<string, { at: number, promise: Promise<void> }>} */
    this.asked = new Map();
    /** Why our routes themselves do not answer, or "". */
    this.failure = "";
    /** @type {Set<() => void>} */
    this.watchers = new Set();
  }

  /** @param {() => void} watcher called after each change */
  watch(watcher) {
    this.watchers.add(watcher);
  }

  changed() {
    for (const watcher of this.watchers) watcher();
  }

  /**
   * Connections and their state; asked for when older than half a minute.
   * @param {boolean} [again] ask the server now, and let it ask the providers
   * @returns {Promise<void>}
   */
  async check(again = false) {
    await this.ask("/lmbridge/connections", again, (body) => {
      this.connections = Array.isArray(body.connections) ? body.connections : [];
    });
  }

  /**
   * @param {string} connection
   * @param {boolean} [again]
   * @returns {Promise<void>}
   */
  async list(connection, again = false) {
    if (!connection) return;
    const path = `/lmbridge/models?connection=${encodeURIComponent(connection)}`;
    await this.ask(path, again, (body) => {
      const models = Array.isArray(body.models) ? body.models.filter(isModel) : [];
      const error = body.error ? { message: asText(body.error.message), hint: asText(body.error.hint) } : null;
      // A server that is away does not make its models unknown.
      const before = this.listings.get(connection);
      this.listings.set(connection, { models: error && !models.length ? (before?.models ?? []) : models, error });
    });
  }

  /** Forget how fresh everything is. */
  expire() {
    this.asked.clear();
  }

  /**
   * @param {string} path
   * @param {boolean} again
   * @param {(body: any) => void} take
   */
  async ask(path, again, take) {
    const running = this.asked.get(path);
    if (!again && running && this.now() - running.at < FRESH) return running.promise;
    const promise = this.fetch(again ? `${path}${path.includes("?") ? "&" : "?"}refresh=1` : path, take);
    this.asked.set(path, { at: this.now(), promise });
    return promise;
  }

  /**
   * @param {string} path
   * @param {(body: any) => void} take
   */
  async fetch(path, take) {
    try {
      take(await this.routes.get(path));
      this.failure = "";
    } catch {
      this.failure = t("sidebar.unreachable");
    }
    this.changed();
  }

  /**
   * @param {string} connection
   * @param {string} modelName
   * @returns {ConnectionView}
   */
  view(connection, modelName) {
    const found = this.connections?.find((each) => each.name === connection);
    if (this.failure) return { name: connection, state: "down", facts: "", why: this.failure };
    if (!this.connections) return { name: connection, state: "checking", facts: "", why: "" };
    if (!found) return { name: connection, state: "missing", facts: "", why: t("state.missing") };
    const listing = this.listings.get(connection);
    const model = listing?.models.find((each) => each.id === modelName);
    const trouble = found.state === "down" ? [found.why, found.hint] : [listing?.error?.message, listing?.error?.hint];
    const state = listing?.error && found.state !== "down" ? "down" : found.state;
    return { name: connection, state, facts: model ? facts(model) : "", why: trouble.filter(Boolean).join(" ") };
  }
}

/**
 * @param {any} value
 * @returns {value is Model}
 */
function isModel(value) {
  return typeof value?.id === "string" && value.id !== "";
}

/**
 * @param {Model} model
 * @returns {string} e.g. "loaded · vision · 32K context"
 */
export function facts(model) {
  const context = model.context_length ?? model.max_context_length;
  return [
    model.loaded ? t("model.loaded") : "",
    model.vision === "yes" ? t("model.vision") : "",
    model.reasoning === "yes" ? t("model.reasoning") : "",
    typeof context === "number" ? t("model.context", { count: short(context) }) : "",
  ]
    .filter(Boolean)
    .join(" · ");
}
