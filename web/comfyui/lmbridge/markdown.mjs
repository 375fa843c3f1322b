/** Formatted text from a model. The frontend's renderer sanitises scripts; here everything that loads or restyles goes, too. */

const TAGS = new Set(
  ("A B BLOCKQUOTE BR CODE DD DEL DIV DL DT EM H1 H2 H3 H4 H5 H6 HR I INS KBD LI OL P PRE S SPAN STRONG SUB SUP TABLE " +
    "TBODY TD TFOOT TH THEAD TR U UL").split(" "),
);

/**
 * @param {string} html as the frontend's markdown renderer gave it
 * @returns {DocumentFragment} headings, lists, tables, code and links; no pictures, no styles, no attributes but href
 */
export function safeFragment(html) {
  // A parsed document that is not shown loads nothing.
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const fragment = document.createDocumentFragment();
  copyChildren(parsed.body, fragment, 0);
  return fragment;
}

/**
 * @param {globalThis.Node} from
 * @param {globalThis.Node} to
 * @param {number} depth
 */
function copyChildren(from, to, depth) {
  for (const child of from.childNodes) {
    if (child instanceof Text) to.appendChild(document.createTextNode(child.data));
    else if (child instanceof HTMLImageElement) to.appendChild(document.createTextNode(child.alt));
    else if (child instanceof Element && depth < 100) copyElement(child, to, depth);
  }
}

/**
 * @param {Element} element
 * @param {globalThis.Node} to
 * @param {number} depth
 */
function copyElement(element, to, depth) {
  if (element.localName === "script" || element.localName === "style") return;
  if (!TAGS.has(element.tagName)) return copyChildren(element, to, depth + 1);
  const copy = document.createElement(element.localName);
  if (copy instanceof HTMLAnchorElement) copyLink(element.getAttribute("href") ?? "", copy);
  copyChildren(element, copy, depth + 1);
  to.appendChild(copy);
}

/**
 * @param {string} href
 * @param {HTMLAnchorElement} link
 */
function copyLink(href, link) {
  if (!/^https?:\/\//i.test(href)) return;
  link.href = href;
  link.title = href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}
