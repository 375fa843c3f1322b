/** One answer as it arrives: ordered deltas, then the full text. No DOM, no ComfyUI. */

import { asNumber, asText } from "./text.mjs";

/** Phases in which work is under way. */
export const RUNNING = new Set(["queued", "connecting", "loading model", "reading prompt", "reasoning", "answering"]);
/** Phases after which nothing more comes. */
export const ENDED = new Set(["done", "failed", "cancelled"]);

/** So many later updates are held back for a missing one; the socket keeps its order, so more are never needed. */
const HELD = 16;
/** A missing update is given up after so many milliseconds. */
const PATIENCE = 2000;
/** No answer is kept beyond this many characters of text, nor of reasoning: the display is no archive. */
const LIMIT = 4_000_000;

/**
 * @typedef {object} Update  what one `lmbridge.update` carries
 * @property {string} prompt_id
 * @property {string} node
 * @property {string} [display_node]
 * @property {string | null} [workflow_id]
 * @property {number} [index]
 * @property {number} seq
 * @property {string} phase
 * @property {number | null} [fraction]
 * @property {string} [reasoning]
 * @property {string} [text]
 * @property {number | null} [tokens]
 * @property {number | null} [tokens_per_second]
 * @property {number} [elapsed]
 * @property {string | null} [message]
 */

/**
 * @typedef {object} Final  one entry of the node's `executed` output
 * @property {string} text
 * @property {string} [reasoning]
 * @property {string} [model]
 * @property {string} [connection]
 * @property {string} [finish_reason]
 * @property {Record<string, unknown>} [stats]
 * @property {unknown[]} [notes]
 * @property {string | null} [error] why there is a fallback text instead of an answer
 * @property {number} [index]
 */

/** The answer of one execution of one node, for one item of its list. */
export class Transcript {
  /** Counts the changes. */
  version = 0;
  /** How often the text was replaced instead of appended to; a view that appends compares it. */
  generation = 0;
  promptId = "";
  text = "";
  reasoning = "";
  /** One of `RUNNING` or `ENDED`, or "" before the first update. */
  phase = "";
  /** @type {number | null} */
  fraction = null;
  /** @type {number | null} */
  tokens = null;
  /** Tokens in a second. @type {number | null} */
  speed = null;
  /** Seconds. @type {number | null} */
  elapsed = null;
  /** Why it failed. */
  message = "";
  model = "";
  connection = "";
  finishReason = "";
  /** @type {string[]} */
  notes = [];
  /** Whether updates were lost, so that the text has a hole until the full text comes. */
  incomplete = false;
  /** The next sequence number. */
  next = 0;
  /** Updates that came too early. @type {Map<number, Update>} */
  held = new Map();
  heldSince = 0;

  /**
   * @param {string} executionId
   * @param {number} index position in the node's list, 0 without a list
   */
  constructor(executionId, index = 0) {
    this.executionId = executionId;
    this.index = index;
  }

  /**
   * Begin anew, for another run.
   * @param {string} promptId
   */
  clear(promptId) {
    const { executionId, index, version, generation } = this;
    Object.assign(this, new Transcript(executionId, index), { promptId, version: version + 1, generation: generation + 1 });
  }

  get running() {
    return RUNNING.has(this.phase);
  }

  get empty() {
    return this.phase === "" && this.text === "" && this.reasoning === "";
  }

  /**
   * Take one update, in whatever order it comes.
   * @param {Update} update
   * @param {number} now milliseconds of a clock that only goes forward
   */
  apply(update, now) {
    if (update.prompt_id !== this.promptId) this.clear(update.prompt_id);
    const seq = asNumber(update.seq);
    if (seq === null || seq < this.next) return;
    if (this.held.size === 0) this.heldSince = now;
    this.held.set(seq, update);
    this.drain();
    if (ENDED.has(update.phase) || this.held.size > HELD) this.giveUp();
  }

  /**
   * Give up on a missing update that has had its time.
   * @param {number} now
   * @returns {boolean} whether updates are still held back
   */
  expire(now) {
    if (this.held.size > 0 && now - this.heldSince >= PATIENCE) this.giveUp();
    return this.held.size > 0;
  }

  drain() {
    for (let update = this.held.get(this.next); update; update = this.held.get(this.next)) {
      this.held.delete(this.next);
      this.next += 1;
      this.take(update);
    }
  }

  /** Go on behind the gaps. */
  giveUp() {
    while (this.held.size > 0) {
      this.next = Math.min(...this.held.keys());
      this.incomplete = true;
      this.drain();
    }
  }

  /** @param {Update} update */
  take(update) {
    this.text = (this.text + asText(update.text)).slice(0, LIMIT);
    this.reasoning = (this.reasoning + asText(update.reasoning)).slice(0, LIMIT);
    this.phase = asText(update.phase);
    this.fraction = asNumber(update.fraction);
    this.tokens = asNumber(update.tokens) ?? this.tokens;
    this.speed = asNumber(update.tokens_per_second) ?? this.speed;
    this.elapsed = asNumber(update.elapsed) ?? this.elapsed;
    this.message = asText(update.message);
    this.version += 1;
  }

  /**
   * The full answer, from `executed`; also of a cached result, which had no updates.
   * @param {string} promptId
   * @param {Final} final
   */
  finish(promptId, final) {
    if (promptId !== this.promptId) this.clear(promptId);
    const text = asText(final.text).slice(0, LIMIT);
    const reasoning = asText(final.reasoning).slice(0, LIMIT);
    if (text !== this.text || reasoning !== this.reasoning) this.generation += 1;
    this.text = text;
    this.reasoning = reasoning;
    this.model = asText(final.model);
    this.connection = asText(final.connection);
    this.finishReason = asText(final.finish_reason);
    const notes = Array.isArray(final.notes) ? final.notes.map(noteText) : [];
    this.notes = [asText(final.error), ...notes].filter(Boolean);
    this.takeStats(final.stats ?? {});
    this.settle("done");
    this.incomplete = false;
    this.held.clear();
    this.next = Infinity;
  }

  /** @param {Record<string, unknown>} stats */
  takeStats(stats) {
    const usage = /** @type {Record<string, unknown> | null} */ (typeof stats.usage === "object" ? stats.usage : null);
    this.tokens = asNumber(usage?.completion_tokens) ?? this.tokens;
    this.speed = asNumber(stats.tokens_per_second) ?? this.speed;
    this.elapsed = asNumber(stats.total_seconds) ?? this.elapsed;
  }

  /**
   * What ComfyUI says about the whole prompt, should our own last update be lost.
   * @param {"done" | "failed" | "cancelled"} phase
   * @param {string} [message]
   */
  settle(phase, message = "") {
    this.phase = phase;
    this.fraction = null;
    this.message = message;
    this.version += 1;
  }

  /** What is remembered over a reload of the page. */
  toJSON() {
    const { promptId, text, reasoning, phase, tokens, speed, elapsed, message, model, connection, notes, next } = this;
    const { finishReason, incomplete } = this;
    const seq = Number.isFinite(next) ? next : -1;
    return { promptId, text, reasoning, phase, tokens, speed, elapsed, message, model, connection, notes, seq, finishReason, incomplete };
  }

  /**
   * @param {string} executionId
   * @param {number} index
   * @param {any} saved what `toJSON` gave, read from storage: checked field by field
   * @returns {Transcript}
   */
  static revive(executionId, index, saved) {
    const transcript = new Transcript(executionId, index);
    transcript.clear(asText(saved?.promptId));
    for (const name of /** @type {const} */ (["text", "reasoning", "phase", "message", "model", "connection", "finishReason"])) {
      transcript[name] = asText(saved?.[name]);
    }
    for (const name of /** @type {const} */ (["tokens", "speed", "elapsed"])) transcript[name] = asNumber(saved?.[name]);
    transcript.notes = Array.isArray(saved?.notes) ? saved.notes.map(asText).filter(Boolean) : [];
    const seq = asNumber(saved?.seq) ?? 0;
    transcript.next = seq < 0 ? Infinity : seq;
    transcript.incomplete = saved?.incomplete === true;
    return transcript;
  }
}

/**
 * A note as one sentence, whatever form it has.
 * @param {any} note
 * @returns {string}
 */
function noteText(note) {
  return typeof note === "string" ? note : asText(note?.message ?? note?.text);
}
