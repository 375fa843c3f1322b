/** Growing text on the page: appended, not replaced, and cut into blocks so that a megabyte stays scrollable. */

import { visible } from "./text.mjs";

/** A block ends at the first newline behind this many characters … */
const BLOCK = 8_000;
/** … or here, if there is none. */
const HARD = 32_000;

export class Flow {
  /** How much of the text is on the page. */
  shown = 0;
  /** The block that grows. @type {Text | null} */
  last = null;

  /** @param {HTMLElement} element empty, and from now on this object's */
  constructor(element) {
    this.element = element;
  }

  reset() {
    this.shown = 0;
    this.last = null;
    this.element.replaceChildren();
  }

  /**
   * Show the text; what is shown already is its beginning, unless `anew`.
   * @param {string} text
   * @param {boolean} [anew]
   */
  show(text, anew = false) {
    if (anew || text.length < this.shown) this.reset();
    // A newline may follow, which together with this is one.
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    if (end <= this.shown) return;
    this.append(visible(text.slice(this.shown, end)));
    this.shown = end;
  }

  /** @param {string} text */
  append(text) {
    while (text !== "") {
      const block = (this.last ??= this.begin());
      const cut = cutAt(text, block.length);
      block.appendData(text.slice(0, cut));
      text = text.slice(cut);
      if (text !== "" || block.length >= HARD) this.last = null;
    }
  }

  begin() {
    const text = document.createTextNode("");
    const block = document.createElement("div");
    block.append(text);
    this.element.append(block);
    return text;
  }
}

/**
 * Where the block ends that has `length` characters already: behind a newline, which the new block makes by itself.
 * @param {string} text
 * @param {number} length
 */
function cutAt(text, length) {
  if (length + text.length <= BLOCK) return text.length;
  const newline = text.indexOf("\n", Math.max(0, BLOCK - length));
  const hard = Math.max(1, HARD - length);
  return newline >= 0 && newline < hard ? newline + 1 : Math.min(hard, text.length);
}
