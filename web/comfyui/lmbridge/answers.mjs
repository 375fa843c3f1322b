/** All answers of this page: events in, transcripts out, each at the node that it belongs to. */

import { byExecutionId, realId } from "./addressing.mjs";
import { Transcript } from "./transcript.mjs";
import { asNumber, asText } from "./text.mjs";

/** @import { Memory } from "./memory.mjs" */
/** @import { Update, Final } from "./transcript.mjs" */
/** @import { Graph, Node } from "../../types/comfyui" */

/** So many answers are held in the page; the oldest go first. */
const HELD = 500;
/** Ask again for a missing update after so many milliseconds. */
const WAIT = 2100;

/**
 * @typedef {object} Surroundings
 * @property {() => Graph | null} root the open workflow
 * @property {() => string[]} names of the open workflow, the best first
 * @property {(node: Node) => boolean} ours whether the node shows answers
 * @property {(node: Node, transcript: Transcript) => void} show called after each change, on the node if it is on screen
 * @property {() => number} openWorkflows
 * @property {(promptId: string) => Promise<string | null>} workflowOf asks the server which workflow was queued
 * @property {(promptId: string) => Promise<any>} history what the server kept of a prompt that has ended, or null
 * @property {() => Promise<Set<string>>} underWay the prompts that the server still works on
 * @property {() => number} now
 */

export class Answers {
  /**
   * @param {Memory} memory
   * @param {Surroundings} surroundings
   */
  constructor(memory, surroundings) {
    this.memory = memory;
    this.around = surroundings;
    this.remember = true;
    /** @type {Map<string, { workflow: string, transcript: Transcript }>} */
    this.all = new Map();
    /** Workflow of each prompt heard of. @type {Map<string, string>} */
    this.workflows = new Map();
  }

  /** The name of the open workflow, or "". */
  get current() {
    return this.around.names()[0] ?? "";
  }

  /** @param {Update} update */
  onUpdate(update) {
    if (typeof update?.prompt_id !== "string" || typeof update.node !== "string") return;
    const workflow = realId(update.workflow_id) || this.workflows.get(update.prompt_id) || this.current;
    this.note(update.prompt_id, workflow);
    const transcript = this.transcript(workflow, address(this.root(workflow), update, this.around.ours), update.index ?? 0);
    if (update.prompt_id !== transcript.promptId) this.forgetOlder(workflow, transcript.executionId, update.prompt_id);
    transcript.apply(update, this.around.now());
    this.publish(workflow, transcript);
    if (transcript.held.size > 0) this.waitForMissing(workflow, transcript);
  }

  /**
   * @param {string} workflow
   * @param {Transcript} transcript
   */
  waitForMissing(workflow, transcript) {
    window.setTimeout(() => {
      if (transcript.held.size === 0) return;
      transcript.expire(this.around.now());
      this.publish(workflow, transcript);
    }, WAIT);
  }

  /**
   * The node's output, also of a cached result.
   * @param {{ node: string, display_node?: string, output?: { lmbridge?: Final[] }, prompt_id: string }} detail
   */
  async onExecuted(detail) {
    const finals = detail?.output?.lmbridge;
    if (!Array.isArray(finals) || finals.length === 0) return;
    const workflow = await this.workflow(detail.prompt_id);
    const executionId = address(this.root(workflow), detail, this.around.ours);
    const items = new Map(finals.map((final, position) => [asNumber(final?.index) ?? position, final]));
    this.dropItems(workflow, executionId, items);
    for (const [index, final] of items) {
      const transcript = this.transcript(workflow, executionId, index);
      transcript.finish(detail.prompt_id, final ?? {});
      this.publish(workflow, transcript);
    }
  }

  /**
   * ComfyUI's own word on a prompt, should ours be lost.
   * @param {"done" | "failed" | "cancelled"} phase
   * @param {{ prompt_id: string, node_id?: string, exception_message?: string }} detail
   */
  onPromptEnd(phase, detail) {
    for (const { workflow, transcript } of this.all.values()) {
      if (transcript.promptId !== detail.prompt_id || !transcript.running) continue;
      const here = phase !== "failed" || String(detail.node_id) === transcript.executionId;
      transcript.settle(here ? phase : "cancelled", phase === "failed" && here ? asText(detail.exception_message).trim() : "");
      this.publish(workflow, transcript);
    }
  }

  /** A workflow was opened, or its graph made anew: show what belongs to its nodes. */
  restore() {
    const workflow = this.current;
    if (this.remember) for (const name of this.around.names()) this.revive(name, workflow);
    for (const entry of this.all.values()) {
      if (entry.workflow === workflow) this.show(workflow, entry.transcript);
    }
    void this.recover();
  }

  /**
   * @param {string} name under which it was remembered
   * @param {string} workflow its name now
   */
  revive(name, workflow) {
    for (const { slot, answer } of this.memory.of(name)) {
      const key = keyOf(workflow, slot.executionId, slot.index);
      if (this.all.has(key)) continue;
      const transcript = Transcript.revive(slot.executionId, slot.index, answer);
      this.all.set(key, { workflow, transcript });
      this.note(transcript.promptId, workflow);
    }
  }

  /** After a reload or a lost socket: what ended unseen gets its full text, or its end. */
  async recover() {
    const open = [...this.all.values()].filter(({ transcript }) => transcript.running);
    if (open.length === 0) return;
    const underWay = await this.around.underWay().catch(() => null);
    if (!underWay) return;
    for (const { workflow, transcript } of open) {
      if (underWay.has(transcript.promptId) || !transcript.running) continue;
      const output = (await this.around.history(transcript.promptId))?.outputs?.[transcript.executionId]?.lmbridge;
      const final = finalOf(output, transcript.index);
      if (final) transcript.finish(transcript.promptId, final);
      else transcript.settle("cancelled");
      this.publish(workflow, transcript);
    }
  }

  /**
   * The answers of a node: one for each use of its subgraph and each item of its list.
   * @param {Node} node
   * @returns {Transcript[]}
   */
  of(node) {
    const root = this.around.root();
    const workflow = this.current;
    if (!root) return [];
    const found = [];
    for (const entry of this.all.values()) {
      if (entry.workflow !== workflow) continue;
      if (byExecutionId(root, entry.transcript.executionId) === node) found.push(entry.transcript);
    }
    return found.sort(inOrder);
  }

  /** Before the page goes: what is under way is remembered as far as it is. */
  save() {
    for (const { workflow, transcript } of this.all.values()) {
      if (transcript.running) this.keep(workflow, transcript);
    }
  }

  /** @returns {Transcript[]} */
  running() {
    return [...this.all.values()].map((entry) => entry.transcript).filter((transcript) => transcript.running);
  }

  /**
   * @param {string} promptId
   * @returns {Promise<string>}
   */
  async workflow(promptId) {
    const known = this.workflows.get(promptId);
    if (known !== undefined) return known;
    const asked = this.around.openWorkflows() > 1 ? await this.around.workflowOf(promptId).catch(() => null) : null;
    const workflow = this.workflows.get(promptId) ?? (realId(asked) || this.current);
    this.note(promptId, workflow);
    return workflow;
  }

  /**
   * @param {string} promptId
   * @param {string} workflow
   */
  note(promptId, workflow) {
    this.workflows.set(promptId, workflow);
    for (const oldest of this.workflows.keys()) {
      if (this.workflows.size <= HELD) break;
      this.workflows.delete(oldest);
    }
  }

  /**
   * @param {string} workflow
   * @returns {Graph | null} its graph, if it is the open one
   */
  root(workflow) {
    return workflow === this.current ? this.around.root() : null;
  }

  /**
   * @param {string} workflow
   * @param {string} executionId
   * @param {number} index
   * @returns {Transcript}
   */
  transcript(workflow, executionId, index) {
    const key = keyOf(workflow, executionId, index);
    const transcript = this.all.get(key)?.transcript ?? new Transcript(executionId, index);
    this.all.delete(key); // to the end: the newest is the last to go
    this.all.set(key, { workflow, transcript });
    for (const [oldest, entry] of this.all) {
      if (this.all.size <= HELD) break;
      if (!entry.transcript.running) this.all.delete(oldest);
    }
    return transcript;
  }

  /**
   * A new run of a node: its items of the last run are no answers of this one.
   * @param {string} workflow
   * @param {string} executionId
   * @param {string} promptId
   */
  forgetOlder(workflow, executionId, promptId) {
    for (const [key, entry] of this.all) {
      const { transcript } = entry;
      if (entry.workflow !== workflow || transcript.executionId !== executionId) continue;
      if (transcript.promptId !== promptId && transcript.index > 0) this.all.delete(key);
    }
  }

  /**
   * @param {string} workflow
   * @param {string} executionId
   * @param {Map<number, unknown>} items those that there are
   */
  dropItems(workflow, executionId, items) {
    for (const [key, entry] of this.all) {
      const { transcript } = entry;
      if (entry.workflow === workflow && transcript.executionId === executionId && !items.has(transcript.index)) {
        this.all.delete(key);
      }
    }
  }

  /**
   * @param {string} workflow
   * @param {Transcript} transcript
   */
  publish(workflow, transcript) {
    if (!transcript.running) this.keep(workflow, transcript);
    this.show(workflow, transcript);
  }

  /**
   * @param {string} workflow
   * @param {Transcript} transcript
   */
  show(workflow, transcript) {
    const root = this.root(workflow);
    const node = root && byExecutionId(root, transcript.executionId);
    if (node && this.around.ours(node)) this.around.show(node, transcript);
  }

  /**
   * @param {string} workflow
   * @param {Transcript} transcript
   */
  keep(workflow, transcript) {
    if (!this.remember || !workflow) return;
    this.memory.put({ workflow, executionId: transcript.executionId, index: transcript.index }, transcript.toJSON());
  }
}

/**
 * @param {string} workflow
 * @param {string} executionId
 * @param {number} index
 */
function keyOf(workflow, executionId, index) {
  return JSON.stringify([workflow, executionId, index]);
}

/**
 * @param {unknown} output of the node, as in `executed`
 * @param {number} index
 * @returns {Final | null}
 */
function finalOf(output, index) {
  if (!Array.isArray(output)) return null;
  return output.find((final, position) => (asNumber(final?.index) ?? position) === index) ?? null;
}

/**
 * The id under which the answer is shown. Nodes made by expansion, as in loops, are shown at the node that made them.
 * @param {Graph | null} root
 * @param {{ node: string, display_node?: string }} detail
 * @param {(node: Node) => boolean} ours
 * @returns {string}
 */
function address(root, detail, ours) {
  const display = asText(detail.display_node);
  if (!root || !display || display === detail.node) return detail.node;
  const node = byExecutionId(root, detail.node);
  return node && ours(node) ? detail.node : display;
}

/**
 * @param {Transcript} a
 * @param {Transcript} b
 */
function inOrder(a, b) {
  return a.executionId.localeCompare(b.executionId, "en", { numeric: true }) || a.index - b.index;
}
