/** The sidebar tab: connections, models with load and unload, plugins, last errors. */

import { facts } from "./catalog.mjs";
import { make } from "./dom.mjs";
import { RouteError } from "./routes.mjs";
import { asText, visible } from "./text.mjs";
import { t } from "./texts.mjs";

/** @import { Catalog, Connection, Model } from "./catalog.mjs" */
/** @import { Routes } from "./routes.mjs" */

export class Sidebar {
  /**
   * @param {Catalog} catalog
   * @param {Routes} routes
   */
  constructor(catalog, routes) {
    this.catalog = catalog;
    this.routes = routes;
    /** @type {HTMLElement | null} */
    this.root = null;
    /** Connections whose models are unfolded. @type {Set<string>} */
    this.open = new Set();
    /** What is being done to a model: "load" or "unload", by connection and model. @type {Map<string, string>} */
    this.busy = new Map();
    /** @type {any[]} */
    this.plugins = [];
    /** @type {any[]} */
    this.errors = [];
    this.failure = "";
    catalog.watch(() => this.draw());
  }

  /** @param {HTMLElement} container */
  render(container) {
    this.root = make("div", { class: "lmbridge lmbridge-sidebar" });
    container.replaceChildren(this.root);
    this.draw();
    void this.refresh(false);
  }

  destroy() {
    this.root = null;
  }

  /** @param {boolean} again */
  async refresh(again) {
    const lists = [...this.open].map((name) => this.catalog.list(name, again));
    await Promise.all([this.catalog.check(again), ...lists, this.readPlugins(), this.readErrors()]);
    this.draw();
  }

  async readPlugins() {
    const body = await this.routes.get("/lmbridge/plugins").catch(() => null);
    if (Array.isArray(body?.plugins)) this.plugins = body.plugins;
  }

  async readErrors() {
    const body = await this.routes.get("/lmbridge/errors").catch(() => null);
    if (Array.isArray(body?.errors)) this.errors = body.errors;
  }

  draw() {
    if (!this.root?.isConnected && this.root?.childElementCount) return;
    this.root?.replaceChildren(
      this.head(),
      ...this.failures(),
      this.section(t("sidebar.connections"), this.connections()),
      this.section(t("sidebar.plugins"), this.pluginList()),
      this.section(t("sidebar.errors"), this.errorList()),
    );
  }

  head() {
    const again = { type: "button", class: "lmbridge-button", onclick: () => void this.refresh(true) };
    return make("div", { class: "lmbridge-title" }, make("h2", {}, t("sidebar.title")), make("button", again, t("sidebar.refresh")));
  }

  failures() {
    const texts = [this.catalog.failure, this.failure].filter(Boolean);
    return texts.map((text) => make("p", { class: "lmbridge-why", role: "alert" }, visible(text)));
  }

  /**
   * @param {string} title
   * @param {HTMLElement[]} children
   */
  section(title, children) {
    return make("section", {}, make("h3", {}, title), ...children);
  }

  connections() {
    const connections = this.catalog.connections ?? [];
    if (this.catalog.connections && connections.length === 0) return [quiet(t("sidebar.no_connections"))];
    return connections.map((connection) => this.connection(connection));
  }

  /** @param {Connection} connection */
  connection(connection) {
    const { name, state } = connection;
    const dot = make("span", { class: "lmbridge-dot", "data-state": state, role: "img", "aria-label": t(`state.${state}`) });
    const about = [connection.provider === name ? "" : connection.provider, asText(connection.address)].filter(Boolean);
    const summary = make(
      "summary",
      { title: t(`state.${state}`) },
      dot,
      make("span", { class: "lmbridge-name" }, visible(name)),
      make("span", { class: "lmbridge-facts" }, visible(about.join(" · "))),
    );
    const why = [connection.why, connection.hint].filter(Boolean).join(" ");
    const details = /** @type {HTMLDetailsElement} */ (make("details", { open: this.open.has(name) }, summary));
    if (why) details.append(make("p", { class: "lmbridge-why" }, visible(why)));
    if (this.open.has(name)) details.append(...this.models(connection));
    // Not "toggle": that event also comes, later, for a state that was only drawn.
    summary.addEventListener("click", (event) => this.toggle(event, name));
    return details;
  }

  /**
   * @param {Event} event
   * @param {string} name
   */
  toggle(event, name) {
    event.preventDefault();
    if (this.open.delete(name)) return this.draw();
    this.open.add(name);
    this.draw();
    void this.catalog.list(name);
  }

  /** @param {Connection} connection */
  models(connection) {
    const listing = this.catalog.listings.get(connection.name);
    if (!listing) return [quiet(t("state.checking"))];
    const error = [listing.error?.message, listing.error?.hint].filter(Boolean).join(" ");
    if (error && error !== connection.why) return [make("p", { class: "lmbridge-why" }, visible(error))];
    if (listing.models.length === 0) return [quiet(t("sidebar.no_models"))];
    return [make("ul", { class: "lmbridge-models" }, ...listing.models.map((model) => this.model(connection.name, model)))];
  }

  /**
   * @param {string} connection
   * @param {Model} model
   */
  model(connection, model) {
    const action = model.loaded ? "unload" : "load";
    const doing = this.busy.get(key(connection, model.id));
    const label = t(doing ? `sidebar.${doing}ing` : `sidebar.${action}`);
    const button = {
      type: "button",
      class: "lmbridge-button",
      disabled: Boolean(doing),
      "aria-label": `${label}: ${visible(model.id)}`,
      onclick: () => void this.act(connection, model.id, action),
    };
    return make(
      "li",
      {},
      make(
        "div",
        { class: "lmbridge-model", title: visible(model.id) },
        make("span", { class: "lmbridge-name" }, visible(model.id)),
        make("span", { class: "lmbridge-facts" }, facts(model)),
      ),
      make("button", button, label),
    );
  }

  /**
   * @param {string} connection
   * @param {string} model
   * @param {"load" | "unload"} action
   */
  async act(connection, model, action) {
    this.busy.set(key(connection, model), action);
    this.failure = "";
    this.draw();
    try {
      await this.routes.post(`/lmbridge/models/${action}`, { connection, model });
    } catch (error) {
      this.failure = error instanceof RouteError ? error.whole : String(error);
    }
    this.busy.delete(key(connection, model));
    await Promise.all([this.catalog.list(connection, true), this.readErrors()]);
    this.draw();
  }

  pluginList() {
    const failed = this.plugins.filter((plugin) => plugin?.failure);
    const fine = this.plugins.filter((plugin) => !plugin?.failure).map((plugin) => visible(asText(plugin?.name)));
    const trouble = failed.map((plugin) =>
      make(
        "div",
        { class: "lmbridge-trouble" },
        make("strong", {}, visible(asText(plugin.name))),
        make("p", { class: "lmbridge-why" }, visible(asText(plugin.failure))),
        ...(plugin.fix ? [make("p", {}, visible(asText(plugin.fix)))] : []),
      ),
    );
    const rest = failed.length === 0 && fine.length > 0 ? [quiet(t("sidebar.plugins_fine"))] : [];
    return [...trouble, ...rest, quiet(fine.join(", "))];
  }

  errorList() {
    if (this.errors.length === 0) return [quiet(t("sidebar.no_errors"))];
    return this.errors.map((error) =>
      make(
        "div",
        { class: "lmbridge-trouble" },
        make("span", { class: "lmbridge-facts" }, visible([clock(error?.time), asText(error?.connection)].filter(Boolean).join(" · "))),
        make("p", { class: "lmbridge-why" }, visible(asText(error?.message))),
        ...(error?.hint ? [make("p", {}, visible(asText(error.hint)))] : []),
      ),
    );
  }
}

/** @param {string} text */
function quiet(text) {
  return make("p", { class: "lmbridge-quiet" }, text);
}

/**
 * @param {string} connection
 * @param {string} model
 */
function key(connection, model) {
  return JSON.stringify([connection, model]);
}

/**
 * @param {unknown} time seconds since 1970, or a text
 * @returns {string}
 */
function clock(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : asText(time));
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString();
}
