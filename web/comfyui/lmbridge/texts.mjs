/** The script's sentences in the user's language. */

import { ENGLISH } from "./english.mjs";

/** @type {Record<string, unknown>} */
let translated = {};

/**
 * Take the translation that the server has for a language, e.g. `zh-TW`, or its base, `zh`.
 * @param {Record<string, { lmbridge?: Record<string, unknown> }>} all what `GET /i18n` gave
 * @param {string} language
 */
export function useLanguage(all, language) {
  const base = language.split("-")[0] ?? language;
  translated = all?.[language]?.lmbridge ?? all?.[base]?.lmbridge ?? {};
}

/**
 * @param {string} key e.g. "panel.copy"
 * @param {Record<string, string | number>} [values] fill `{name}`
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = find(translated, key) ?? find(ENGLISH, key) ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/**
 * @param {Record<string, unknown>} tree
 * @param {string} key
 * @returns {string | undefined}
 */
function find(tree, key) {
  /** @type {unknown} */
  let found = tree;
  for (const part of key.split(".")) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, part)) return undefined;
    found = /** @type {Record<string, unknown>} */ (found)[part];
  }
  return typeof found === "string" ? found : undefined;
}

/**
 * @param {number} count
 * @returns {string} e.g. "32K", "1.5M"
 */
export function short(count) {
  if (count >= 1_000_000) return `${trim(count / 1_048_576)}M`;
  if (count >= 1000) return `${trim(count / 1024)}K`;
  return String(count);
}

/** @param {number} value */
function trim(value) {
  return value >= 10 ? String(Math.round(value)) : value.toFixed(1).replace(/\.0$/, "");
}
