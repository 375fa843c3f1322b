/** What a model writes is hostile until shown otherwise: here it is made fit for display. The text itself stays as it is. */

/** Control characters (all but tab and newline) as their visible pictures; a lone carriage return is a newline. */
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/**
 * The text with control characters made visible, so that no escape sequence can act and none can hide.
 * @param {string} text
 * @returns {string}
 */
export function visible(text) {
  return text.replace(/\r\n?/g, "\n").replace(CONTROLS, (character) => {
    const code = character.charCodeAt(0);
    if (code === 0x7f) return "\u2421";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\ufffd";
  });
}

/**
 * The last `limit` characters, never cut inside a surrogate pair.
 * @param {string} text
 * @param {number} limit
 * @returns {string}
 */
export function tail(text, limit) {
  if (text.length <= limit) return text;
  const start = text.length - limit;
  const low = text.charCodeAt(start);
  return text.slice(low >= 0xdc00 && low <= 0xdfff ? start + 1 : start);
}

/**
 * A value of foreign JSON as a string; anything else as "".
 * @param {unknown} value
 * @returns {string}
 */
export function asText(value) {
  return typeof value === "string" ? value : "";
}

/**
 * A value of foreign JSON as a finite number, else null.
 * @param {unknown} value
 * @returns {number | null}
 */
export function asNumber(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
