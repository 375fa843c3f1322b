/** What is shown on a node: connection, thinking, answer, status, buttons. It draws; it decides nothing. */

import { make, setAttribute, setText, shield } from "./dom.mjs";
import { Flow } from "./flow.mjs";
import { safeFragment } from "./markdown.mjs";
import { summary, working } from "./status.mjs";
import { t } from "./texts.mjs";
import { visible } from "./text.mjs";

/** @import { Transcript } from "./transcript.mjs" */
/** @import { ConnectionView } from "./catalog.mjs" */

/**
 * @typedef {object} Actions
 * @property {(transcript: Transcript) => void} stop
 * @property {(transcript: Transcript) => Promise<boolean>} copy whether it was copied
 * @property {() => void} refresh
 * @property {(transcript: Transcript, all: Transcript[]) => string} label names one of several answers
 * @property {(text: string) => string | null} markdown HTML, or null where answers are shown as they are
 * @property {() => boolean} openThinking whether thinking is unfolded while it arrives
 */

export class Panel {
  /** @type {Transcript[]} */
  transcripts = [];
  /** @type {Transcript | null} */
  chosen = null;
  /** What changed last. @type {Transcript | null} */
  latest = null;
  /** @type {ConnectionView | null} */
  view = null;
  /** Why the model is not asked, or "". */
  kept = "";
  /** What was drawn last, to draw only what changed. @type {Transcript | null} */
  drawn = null;
  generation = -1;
  formatted = false;
  /** The prompt that a stop was asked for. @type {string | null} */
  stopping = null;

  dot = make("span", { class: "lmbridge-dot", role: "img" });
  name = make("span", { class: "lmbridge-name" });
  facts = make("span", { class: "lmbridge-facts" });
  refresh = make(
    "button",
    { type: "button", class: "lmbridge-button lmbridge-refresh", onclick: () => this.actions.refresh() },
    make("span", { class: "lmbridge-icon-refresh", "aria-hidden": "true" }),
  );
  why = make("div", { class: "lmbridge-why", hidden: true });
  choice = /** @type {HTMLSelectElement} */ (
    make("select", { class: "lmbridge-choice", hidden: true, onchange: () => this.choose() })
  );

  count = make("summary");
  thought = make("div", { class: "lmbridge-thought", dir: "auto" });
  thinking = /** @type {HTMLDetailsElement} */ (
    make("details", { class: "lmbridge-thinking", hidden: true }, this.count, this.thought)
  );
  answer = make("div", { class: "lmbridge-answer", dir: "auto" });
  hint = make("div", { class: "lmbridge-hint" });
  notes = make("ul", { class: "lmbridge-notes", hidden: true });
  body = make(
    "div",
    { class: "lmbridge-body", tabindex: "0", role: "region" },
    this.thinking,
    this.answer,
    this.hint,
    this.notes,
  );

  bar = /** @type {HTMLProgressElement} */ (make("progress", { class: "lmbridge-bar", max: "1", hidden: true }));
  status = make("span", { class: "lmbridge-status", role: "status" });
  copy = make("button", { type: "button", class: "lmbridge-button", hidden: true, onclick: () => void this.onCopy() });
  stop = make("button", {
    type: "button",
    class: "lmbridge-button lmbridge-stop",
    hidden: true,
    onclick: () => this.onStop(),
  });
  foot = make("div", { class: "lmbridge-foot" }, this.bar, this.status, this.copy, this.stop);

  element = make(
    "div",
    { class: "lmbridge lmbridge-panel", "data-phase": "" },
    make("div", { class: "lmbridge-head" }, this.dot, this.name, this.facts, this.choice, this.refresh),
    this.why,
    this.body,
    this.foot,
  );
  answerFlow = new Flow(this.answer);
  thoughtFlow = new Flow(this.thought);

  /** @param {Actions} actions */
  constructor(actions) {
    this.actions = actions;
    // A folded text costs nothing: it is filled when it is unfolded.
    this.thinking.addEventListener("toggle", () => this.draw());
    shield(this.element, [this.thought, this.body]);
  }

  /**
   * What is shown stays chosen, until another run gives an answer.
   * @param {Transcript[]} transcripts in the order in which they are offered
   */
  offer(transcripts) {
    this.transcripts = transcripts;
    const { chosen, latest } = this;
    const stays = chosen && transcripts.includes(chosen) && (!latest || latest.promptId === chosen.promptId);
    if (!stays) this.chosen = latest && transcripts.includes(latest) ? latest : (transcripts[transcripts.length - 1] ?? null);
  }

  choose() {
    this.chosen = this.transcripts[this.choice.selectedIndex] ?? this.chosen;
    this.generation = -1;
    this.draw();
  }

  onStop() {
    if (!this.chosen) return;
    this.stopping = this.chosen.promptId;
    this.actions.stop(this.chosen);
    this.draw();
  }

  async onCopy() {
    if (!this.chosen) return;
    const done = await this.actions.copy(this.chosen);
    setText(this.copy, t(done ? "panel.copied" : "panel.copy"));
    window.setTimeout(() => setText(this.copy, t("panel.copy")), 1500);
  }

  draw() {
    const transcript = this.chosen;
    const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 24;
    this.drawHead();
    this.drawChoice();
    this.drawTexts(transcript);
    this.drawFoot(transcript);
    if (atEnd && transcript?.running) this.body.scrollTop = this.body.scrollHeight;
  }

  drawHead() {
    const view = this.view;
    setAttribute(this.dot, "data-state", view?.state ?? "unknown");
    setAttribute(this.dot, "aria-label", t(`state.${view?.state ?? "unknown"}`));
    this.dot.title = t(`state.${view?.state ?? "unknown"}`);
    setText(this.name, visible(view?.name ?? ""));
    setText(this.facts, visible(view?.facts ?? ""));
    this.refresh.title = t("panel.refresh");
    setAttribute(this.refresh, "aria-label", t("panel.refresh"));
    this.why.hidden = !view?.why;
    setText(this.why, visible(view?.why ?? ""));
  }

  drawChoice() {
    this.choice.hidden = this.transcripts.length < 2;
    const labels = this.choice.hidden ? [] : this.transcripts.map((each) => this.actions.label(each, this.transcripts));
    const shown = Array.from(this.choice.options, (option) => option.text);
    if (shown.join("\n") !== labels.join("\n")) {
      this.choice.replaceChildren(...labels.map((label) => make("option", {}, label)));
    }
    if (this.chosen) this.choice.selectedIndex = this.transcripts.indexOf(this.chosen);
  }

  /** @param {Transcript | null} transcript */
  drawTexts(transcript) {
    const anew = this.drawn !== transcript || this.generation !== transcript?.generation;
    this.drawThinking(transcript, anew);
    this.drawAnswer(transcript, anew);
    this.drawNotes(transcript);
    this.drawn = transcript;
    this.generation = transcript?.generation ?? -1;
  }

  /**
   * @param {Transcript | null} transcript
   * @param {boolean} anew
   */
  drawThinking(transcript, anew) {
    const reasoning = transcript?.reasoning ?? "";
    this.thinking.hidden = reasoning === "";
    if (anew) this.thinking.open = false;
    if (this.actions.openThinking() && transcript?.running) this.thinking.open = transcript.phase === "reasoning";
    setText(this.count, t("panel.thinking", { count: reasoning.length.toLocaleString() }));
    if (anew) this.thoughtFlow.reset();
    if (this.thinking.open) this.thoughtFlow.show(reasoning);
  }

  /**
   * @param {Transcript | null} transcript
   * @param {boolean} anew
   */
  drawAnswer(transcript, anew) {
    const text = transcript?.text ?? "";
    const html = transcript?.phase === "done" && text ? this.actions.markdown(text) : null;
    this.element.classList.toggle("lmbridge-formatted", html !== null);
    if (html === null) {
      this.answerFlow.show(text, anew || this.formatted);
    } else if (anew || !this.formatted) {
      this.answerFlow.reset();
      this.answer.replaceChildren(safeFragment(html));
    }
    this.formatted = html !== null;
    setText(this.hint, hintOf(transcript, this.kept));
  }

  /** @param {Transcript | null} transcript */
  drawNotes(transcript) {
    const notes = transcript?.notes ?? [];
    this.notes.hidden = notes.length === 0;
    if (this.notes.textContent !== notes.map(visible).join("")) {
      this.notes.replaceChildren(...notes.map((note) => make("li", { dir: "auto" }, visible(note))));
    }
  }

  /** @param {Transcript | null} transcript */
  drawFoot(transcript) {
    const running = transcript?.running ?? false;
    const stopping = running && this.stopping === transcript?.promptId;
    setAttribute(this.element, "data-phase", transcript?.phase.replace(" ", "-") ?? "");
    this.foot.hidden = !transcript || transcript.empty;
    setText(this.status, stopping ? t("panel.stopping") : visible(running ? working(transcript) : summary(transcript)));
    this.status.title = this.status.textContent ?? "";
    this.drawBar(running ? (transcript?.fraction ?? null) : null, running && transcript?.phase !== "answering");
    this.copy.hidden = !transcript?.text;
    if (!this.copy.textContent) setText(this.copy, t("panel.copy"));
    this.copy.title = t("panel.copy_answer");
    this.stop.hidden = !running;
    this.stop.toggleAttribute("disabled", stopping);
    setText(this.stop, t("panel.stop"));
    this.stop.title = t("panel.stop_answer");
  }

  /**
   * @param {number | null} fraction
   * @param {boolean} waiting
   */
  drawBar(fraction, waiting) {
    this.bar.hidden = fraction === null && !waiting;
    if (fraction === null) this.bar.removeAttribute("value");
    else setAttribute(this.bar, "value", String(Math.min(1, Math.max(0, fraction))));
  }
}

/**
 * @param {Transcript | null} transcript
 * @param {string} kept
 */
function hintOf(transcript, kept) {
  if (kept) return kept;
  if (!transcript || transcript.empty) return t("panel.idle");
  if (transcript.incomplete) return t("panel.incomplete");
  return transcript.phase === "done" && transcript.text === "" ? t("panel.nothing") : "";
}
