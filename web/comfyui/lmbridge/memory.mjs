/** What is remembered over a reload: this tab's session storage, bounded, oldest first out. Losing it is never an error. */

const PREFIX = "lmbridge.answer.";
const ORDER = "lmbridge.answers";
/** So many characters in all; a browser gives a page about five million. */
const TOTAL = 1_500_000;
/** One answer beyond this is kept in part. */
const EACH = 200_000;
/** So many answers. */
const COUNT = 200;

/**
 * @typedef {object} Slot  where an answer belongs
 * @property {string} workflow
 * @property {string} executionId
 * @property {number} index
 */

/** Answers by workflow and execution id. */
export class Memory {
  /** @param {Storage | null} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /**
   * @param {Slot} slot
   * @param {Record<string, unknown>} answer
   */
  put(slot, answer) {
    const key = keyOf(slot);
    const kept = { ...answer };
    for (const name of ["text", "reasoning"]) {
      const text = String(kept[name] ?? "");
      if (text.length > EACH) Object.assign(kept, { [name]: text.slice(0, EACH), incomplete: true });
    }
    const text = JSON.stringify(kept);
    const order = this.order().filter((entry) => entry.key !== key);
    order.push({ key, size: text.length });
    while (order.length > COUNT || sum(order) > TOTAL) this.drop(order.shift());
    this.write(key, text, order);
  }

  /**
   * @param {string} workflow
   * @returns {{ slot: Slot, answer: unknown }[]}
   */
  of(workflow) {
    const found = [];
    for (const { key } of this.order()) {
      const slot = slotOf(key);
      if (slot?.workflow !== workflow) continue;
      const answer = this.read(key);
      if (answer !== null) found.push({ slot, answer });
    }
    return found;
  }

  clear() {
    for (const entry of this.order()) this.drop(entry);
    this.attempt(() => this.storage?.removeItem(ORDER));
  }

  /** @returns {{ key: string, size: number }[]} */
  order() {
    const order = this.read(ORDER);
    if (!Array.isArray(order)) return [];
    return order.filter((entry) => typeof entry?.key === "string" && typeof entry?.size === "number");
  }

  /** @param {{ key: string } | undefined} entry */
  drop(entry) {
    if (entry?.key.startsWith(PREFIX)) this.attempt(() => this.storage?.removeItem(entry.key));
  }

  /**
   * @param {string} key
   * @param {string} text
   * @param {{ key: string, size: number }[]} order
   */
  write(key, text, order) {
    // Others share the page's quota: when it is full, the oldest of ours go first.
    for (let tries = 0; tries < 5; tries += 1) {
      const done = this.attempt(() => {
        this.storage?.setItem(key, text);
        this.storage?.setItem(ORDER, JSON.stringify(order));
      });
      if (done || order.length <= 1) return;
      for (const entry of order.splice(0, Math.ceil((order.length - 1) / 2))) this.drop(entry);
    }
  }

  /**
   * @param {string} key
   * @returns {any}
   */
  read(key) {
    try {
      return JSON.parse(this.storage?.getItem(key) ?? "null");
    } catch {
      return null;
    }
  }

  /**
   * @param {() => void} action
   * @returns {boolean}
   */
  attempt(action) {
    try {
      action();
      return true;
    } catch {
      return false;
    }
  }
}

/** @param {Slot} slot */
function keyOf(slot) {
  return PREFIX + JSON.stringify([slot.workflow, slot.executionId, slot.index]);
}

/**
 * @param {string} key
 * @returns {Slot | null}
 */
function slotOf(key) {
  try {
    const [workflow, executionId, index] = JSON.parse(key.slice(PREFIX.length));
    return { workflow, executionId, index };
  } catch {
    return null;
  }
}

/** @param {{ size: number }[]} order */
function sum(order) {
  return order.reduce((total, entry) => total + entry.size, 0);
}
