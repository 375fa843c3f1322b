/** The status line in words. */

import { t } from "./texts.mjs";

/** @import { Transcript } from "./transcript.mjs" */

/**
 * While work is under way: phase, percentage, speed, time.
 * @param {Transcript | null} transcript
 * @returns {string}
 */
export function working(transcript) {
  if (!transcript) return "";
  const phase = t(`phase.${transcript.phase.replace(" ", "_")}`);
  const percent = transcript.fraction === null ? "" : ` ${Math.floor(transcript.fraction * 100)} %`;
  return join([phase + percent, ...numbers(transcript)]);
}

/**
 * Afterwards: what came of it.
 * @param {Transcript | null} transcript
 * @returns {string}
 */
export function summary(transcript) {
  if (!transcript || transcript.phase === "") return "";
  if (transcript.phase === "failed") return transcript.message || t("phase.failed");
  const numbersOf = numbers(transcript);
  const head = transcript.phase === "done" ? transcript.model : t("phase.cancelled");
  return join([head, ...numbersOf]) || t("phase.done");
}

/** @param {Transcript} transcript */
function numbers(transcript) {
  const { tokens, speed, elapsed } = transcript;
  return [
    tokens === null ? "" : t("panel.tokens", { count: tokens.toLocaleString() }),
    speed === null ? "" : t("panel.speed", { speed: speed < 10 ? speed.toFixed(1) : Math.round(speed) }),
    elapsed === null ? "" : t("panel.seconds", { count: elapsed < 10 ? elapsed.toFixed(1) : Math.round(elapsed) }),
  ];
}

/** @param {string[]} parts */
function join(parts) {
  return parts.filter(Boolean).join(" · ");
}
