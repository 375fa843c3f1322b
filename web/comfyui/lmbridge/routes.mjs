/** This pack's routes on ComfyUI's server. The browser never names an address or a key. */

/** @import { ComfyApi } from "../../types/comfyui" */

/** What a route answered instead of what was asked for. */
export class RouteError extends Error {
  /**
   * @param {string} message
   * @param {string} hint
   * @param {number} status
   */
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }

  /** @returns {string} message and hint as one text */
  get whole() {
    return [this.message, this.hint].filter(Boolean).join(" ");
  }
}

export class Routes {
  /** @param {ComfyApi} api */
  constructor(api) {
    this.api = api;
    /** @type {Promise<string> | null} */
    this.token = null;
  }

  /**
   * @param {string} path
   * @returns {Promise<any>}
   */
  async get(path) {
    return read(await this.api.fetchApi(path, { cache: "no-store" }));
  }

  /**
   * Say that this page runs the script, and get the token.
   * @param {boolean} [again] the server may have been started again
   * @returns {Promise<string>}
   */
  async session(again = false) {
    if (again) this.token = null;
    const path = `/lmbridge/session?client=${encodeURIComponent(this.api.clientId ?? "")}`;
    this.token ??= this.get(path).then((session) => String(session.token));
    return this.token.catch((error) => {
      this.token = null;
      throw error;
    });
  }

  /**
   * What changes something needs the token that the server made at its start.
   * @param {string} path
   * @param {Record<string, unknown>} body
   * @returns {Promise<any>}
   */
  async post(path, body) {
    const response = await this.send(path, body);
    if (response.status !== 403) return read(response);
    await this.session(true);
    return read(await this.send(path, body));
  }

  /**
   * @param {string} path
   * @param {Record<string, unknown>} body
   */
  async send(path, body) {
    const token = await this.session();
    const headers = { "Content-Type": "application/json", "X-LMBridge-Token": token };
    return this.api.fetchApi(path, { method: "POST", headers, body: JSON.stringify(body) });
  }
}

/**
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function read(response) {
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const error = body?.error;
  throw new RouteError(String(error?.message ?? response.statusText ?? "error"), String(error?.hint ?? ""), response.status);
}
