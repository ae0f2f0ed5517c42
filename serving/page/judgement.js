// What a reader thinks of one answer: thumbs, reasons, comment, correction.
//
// A thumb is saved the moment it is pressed; everything else is optional and comes after. Each
// kind of judgement keeps one id while it stands, so that changing one replaces it. Taking one
// back retracts it. When the server refuses, the page shows again what the server holds.
import { judge, newId, retract } from "./api.js";

const DONE = { thumbs: "Thumb saved.", comment: "Comment saved.", correction: "Correction saved." };

export class Judgement {
  // `held` is what the server holds, by name; `changed` is called whenever that changes.
  constructor(article, { id, text, held, changed, say }) {
    Object.assign(this, { article, id, text, held, changed, say });
    this.queue = Promise.resolve();
    this.undoes = null;
    this.find("[data-thumb]").forEach((button) =>
      button.addEventListener("click", () => this.thumb(button.dataset.thumb)));
    this.find(".chip").forEach((chip) => chip.addEventListener("click", () => this.reason(chip)));
    this.find("[data-open]").forEach((button) =>
      button.addEventListener("click", () => this.open(button.dataset.open)));
    this.find("[data-close]").forEach((button) =>
      button.addEventListener("click", () => this.close(button.closest("form").dataset.panel, true)));
    for (const name of ["comment", "correction"]) this.wire(name);
    this.one("[data-copy]").addEventListener("click", () => this.copy());
    this.one(".saved button").addEventListener("click", () => this.undo());
    this.show();
  }

  find(selector) {
    return this.article.querySelectorAll(selector);
  }

  one(selector) {
    return this.article.querySelector(selector);
  }

  panel(name) {
    return this.one(`[data-panel="${name}"]`);
  }

  wire(name) {
    const form = this.panel(name);
    const field = form.querySelector("textarea");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      this.close(name, true);
      this.save(name, { value: field.value });
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close(name, true);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  thumb(value) {
    if (this.held.thumbs?.value === value) return this.take("thumbs");
    // A fresh thumb has no reasons: those given for the other one are stale.
    return this.save("thumbs", { value, metadata: {} });
  }

  reason(chip) {
    const reasons = new Set(this.held.thumbs?.metadata?.reasons ?? []);
    if (!reasons.delete(chip.dataset.reason)) reasons.add(chip.dataset.reason);
    const metadata = reasons.size ? { reasons: [...reasons] } : {};
    return this.save("thumbs", { value: "down", metadata });
  }

  save(name, { value, metadata = {} }) {
    const id = this.held[name]?.id ?? newId("page");
    const body = { id, interaction_id: this.id, name, value, metadata };
    return this.change(name, { id, value, metadata }, () => judge(body));
  }

  take(name) {
    const { id } = this.held[name];
    return this.change(name, undefined, () => retract(id));
  }

  undo() {
    const name = this.undoes;
    if (!name || !this.held[name]) return;
    this.take(name);
    const back = name === "thumbs" ? "[data-thumb]" : `[data-open="${name}"]`;
    this.one(back).focus();
  }

  // Show it at once, tell the server in order, and go back if the server says no.
  change(name, next, tell) {
    const before = this.held[name];
    this.set(name, next);
    this.queue = this.queue.then(async () => {
      try {
        await tell();
        this.note(next ? DONE[name] : "Taken back.", next ? name : null);
      } catch (error) {
        if (this.held[name] === next) this.set(name, before);
        this.note(`Not saved: ${error.message}`, null);
      }
    });
    return this.queue;
  }

  set(name, next) {
    if (next) this.held[name] = next;
    else delete this.held[name];
    this.show();
    this.changed();
  }

  show() {
    const { value, metadata } = this.held.thumbs ?? {};
    this.find("[data-thumb]").forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.thumb === value)));
    this.find(".chip").forEach((chip) => {
      const chosen = metadata?.reasons?.includes(chip.dataset.reason) ?? false;
      chip.setAttribute("aria-pressed", String(chosen));
    });
    this.panel("reasons").hidden = value !== "down";
    this.find("[data-open]").forEach((button) =>
      button.classList.toggle("has", Boolean(this.held[button.dataset.open])));
  }

  note(text, undoes) {
    this.undoes = undoes;
    const line = this.one(".saved");
    line.hidden = false;
    line.firstElementChild.textContent = text;
    line.querySelector("button").hidden = !undoes;
    this.say(text);
  }

  open(name) {
    const form = this.panel(name);
    if (!form.hidden) return this.close(name, true);
    for (const other of ["comment", "correction"]) if (other !== name) this.close(other);
    const field = form.querySelector("textarea");
    field.value = this.held[name]?.value ?? (name === "correction" ? this.text : "");
    form.hidden = false;
    this.one(`[data-open="${name}"]`).setAttribute("aria-expanded", "true");
    field.focus();
  }

  close(name, focus = false) {
    const button = this.one(`[data-open="${name}"]`);
    this.panel(name).hidden = true;
    button.setAttribute("aria-expanded", "false");
    if (focus) button.focus();
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      return this.note("The browser did not allow copying.", null);
    }
    this.note("Copied.", null);
    // That somebody used an answer says something about it; losing the signal harms nobody.
    const body = { interaction_id: this.id, name: "signal", value: "copied" };
    judge({ id: newId("page"), ...body }).catch(() => {});
  }
}
