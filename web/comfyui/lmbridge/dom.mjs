/** Elements without markup: text is always text. */

/**
 * @param {string} tag
 * @param {Record<string, string | boolean | ((event: any) => void)>} [attributes] `onclick` and the like are listeners
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/**
 * Set the text, if it changed: an untouched text node costs no layout and keeps the user's selection.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {string} value
 */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * Copy, also where the page is no secure context (ComfyUI over http on a local network).
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** @param {string} text */
function copyBySelection(text) {
  const area = /** @type {HTMLTextAreaElement} */ (make("textarea", { class: "lmbridge-offscreen", readonly: true }));
  area.value = text;
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
  }
}

/**
 * Scrolling and selecting belong to the element, not to the canvas around it.
 * @param {HTMLElement} element
 * @param {HTMLElement[]} scrollers the elements in it that scroll, inner ones first
 */
export function shield(element, scrollers) {
  for (const name of ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick", "copy"]) {
    element.addEventListener(name, (event) => event.stopPropagation());
  }
  // Keys that scroll, select or copy here would move, change or copy nodes there; Ctrl+Enter runs the workflow anywhere.
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) event.stopPropagation();
  });
  // Nodes 2.0 asks for this mark before it lets an element in a node have the wheel.
  for (const scroller of scrollers) scroller.dataset.captureWheel = "true";
  element.addEventListener("wheel", (event) => {
    const target = /** @type {globalThis.Node} */ (event.target);
    const scrolls = scrollers.some((each) => each.contains(target) && each.scrollHeight > each.clientHeight);
    if (scrolls) event.stopPropagation();
  });
}
