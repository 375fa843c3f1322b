/** The entries on ComfyUI's settings page. None of them is a secret: ComfyUI keeps them in a plain file. */

/** @import { Setting } from "../../types/comfyui" */

export const SETTINGS = /** @type {const} */ ({
  markdown: "lmbridge.Answers.Formatted",
  thinking: "lmbridge.Answers.OpenThinking",
  remember: "lmbridge.Answers.Remember",
  visionOnly: "lmbridge.Models.VisionOnly",
});

/**
 * @param {(id: string, value: unknown) => void} onChange
 * @returns {Setting[]}
 */
export function settings(onChange) {
  return [
    toggle(SETTINGS.markdown, ["Answers", "Formatted"], false, onChange, {
      name: "Show finished answers formatted",
      tooltip: "Headings, lists and code as Markdown. The node's output is the plain text in any case.",
    }),
    toggle(SETTINGS.thinking, ["Answers", "OpenThinking"], false, onChange, {
      name: "Unfold the thinking while it arrives",
      tooltip: "It folds again when the answer begins.",
    }),
    toggle(SETTINGS.remember, ["Answers", "Remember"], true, onChange, {
      name: "Show answers again after the page is reloaded",
      tooltip: "They are kept by the browser until its tab is closed, never in the workflow.",
    }),
    toggle(SETTINGS.visionOnly, ["Models", "VisionOnly"], true, onChange, {
      name: "With an image connected, list only models that can see",
      tooltip: "A model that is chosen already stays chosen.",
    }),
  ];
}

/**
 * @param {string} id
 * @param {string[]} place
 * @param {boolean} defaultValue
 * @param {(id: string, value: unknown) => void} onChange
 * @param {{ name: string, tooltip: string }} texts
 * @returns {Setting}
 */
function toggle(id, place, defaultValue, onChange, texts) {
  const category = ["LM Bridge", ...place];
  return { id, type: "boolean", defaultValue, category, onChange: (value) => onChange(id, value), ...texts };
}
