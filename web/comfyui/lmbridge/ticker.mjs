/** Changes to the page, at most one in `interval` milliseconds for each view, however often it is asked for. */

export class Ticker {
  /**
   * @param {number} interval
   * @param {() => number} now
   */
  constructor(interval = 100, now = () => performance.now()) {
    this.interval = interval;
    this.now = now;
    /** @type {WeakMap<object, number>} */
    this.last = new WeakMap();
    /** @type {Map<object, number>} */
    this.timers = new Map();
  }

  /**
   * Call `draw` soon, once for all requests until then.
   * @param {object} owner
   * @param {() => void} draw
   */
  request(owner, draw) {
    if (this.timers.has(owner)) return;
    const due = (this.last.get(owner) ?? -Infinity) + this.interval - this.now();
    const timer = window.setTimeout(() => {
      this.timers.delete(owner);
      this.last.set(owner, this.now());
      draw();
    }, Math.max(0, due));
    this.timers.set(owner, timer);
  }

  /** @param {object} owner */
  forget(owner) {
    window.clearTimeout(this.timers.get(owner));
    this.timers.delete(owner);
    this.last.delete(owner);
  }
}
