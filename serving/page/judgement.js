// What a reader thinks of one answer: thumbs, reasons, comment, correction.
//
// A thumb is saved the moment it is pressed; everything else is optional and comes after. Each
// kind of judgement keeps one id while it stands, so that changing one replaces it. Taking one
// back retracts it. When the server refuses, the page shows again what the server holds.
import { judge, newId, retract } from "./api.js";
import { h, icon } from "./dom.js";
import { FateLine, whenSeen } from "./fate.js";
import { strings } from "./strings.js";

const words = strings.judgement;
const KINDS = ["correction", "comment"];

export class Judgement {
  // `answer.held` is what the server holds, by name; `keep` is called whenever that changes.
  constructor(root, answer, { api, keep, say, regenerate, pager }) {
    Object.assign(this, { api, answer, keep, say });
    answer.held ??= {};
    this.queue = Promise.resolve();
    this.undoes = null;
    this.thumbs = ["up", "down"].map((value) => this.tool(icon(value), () => this.thumb(value), {
      "aria-label": words.thumbs[value], title: words.thumbs[value], "data-thumb": value,
    }));
    this.openers = Object.fromEntries(KINDS.map((name) => [name, this.tool(words.open[name], () => this.open(name), {
      "aria-expanded": "false", "data-open": name,
    })]));
    this.panels = Object.fromEntries(KINDS.map((name) => [name, this.panel(name)]));
    this.reasons = this.reasonsPanel();
    this.saved = h("span");
    this.undoButton = h("button", { type: "button", class: "link", onclick: () => this.undo() }, strings.undo);
    this.line = h("p", { class: "saved", hidden: true }, this.saved, " ", this.undoButton);
    this.fate = h("div");
    root.replaceChildren(
      h("div", { class: "tools", role: "group", "aria-label": words.group },
        this.thumbs, Object.values(this.openers),
        this.tool(strings.copy, () => this.copy()),
        regenerate && this.tool(words.regenerate, regenerate),
        pager,
        h("span", { class: "badge", title: words.badge }, answer.version ?? strings.unknownVersion)),
      this.line, this.reasons, this.fate, ...Object.values(this.panels));
    this.show();
    if (Object.keys(answer.held).length) whenSeen(this.fate, () => this.story || this.follow());
  }

  // The story of what stands: of the thumb, where there is one.
  follow(fresh = false) {
    const { thumbs, correction, comment } = this.answer.held;
    const held = thumbs ?? correction ?? comment;
    this.story?.end();
    this.story = held && new FateLine(this.api, held.id, fresh);
    if (this.story) this.fate.replaceChildren(this.story.node);
  }

  tool(content, onclick, more = {}) {
    const pressed = more["data-thumb"] ? { "aria-pressed": "false" } : {};
    return h("button", { type: "button", onclick, ...more, ...pressed }, content);
  }

  reasonsPanel() {
    this.chips = Object.entries(words.reasons).map(([reason, label]) => h("button", {
      type: "button", class: "chip", "aria-pressed": "false", "data-reason": reason, onclick: () => this.reason(reason),
    }, label));
    const title = h("legend", {}, words.why, " ", h("span", {}, words.optional));
    return h("form", { class: "panel", hidden: true }, h("fieldset", {}, title, this.chips));
  }

  panel(name) {
    const field = h("textarea", { rows: name === "comment" ? 2 : 4, required: true, maxlength: 8000 });
    const form = h("form", {
      class: "panel", hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        if (!field.value.trim()) return;
        this.close(name, true);
        this.save(name, { value: field.value });
      },
      onkeydown: (event) => {
        if (event.key === "Escape") {
          event.preventDefault(); // it closes the panel, and does not stop an answer
          this.close(name, true);
        }
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      },
    },
      h("label", { class: "field" }, words.label[name], field),
      h("div", { class: "row" },
        h("button", { type: "submit", class: "primary" }, words.save[name]),
        h("button", { type: "button", class: "secondary", onclick: () => this.close(name, true) }, strings.close)));
    return form;
  }

  thumb(value) {
    if (this.answer.held.thumbs?.value === value) return this.take("thumbs");
    // A fresh thumb has no reasons: those given for the other one are stale.
    return this.save("thumbs", { value, metadata: {} });
  }

  reason(reason) {
    const reasons = new Set(this.answer.held.thumbs?.metadata?.reasons ?? []);
    if (!reasons.delete(reason)) reasons.add(reason);
    const metadata = reasons.size ? { reasons: [...reasons] } : {};
    return this.save("thumbs", { value: "down", metadata });
  }

  save(name, { value, metadata = {} }) {
    const id = this.answer.held[name]?.id ?? newId("page");
    const body = { id, interaction_id: this.answer.id, name, value, metadata };
    return this.change(name, { id, value, metadata }, () => judge(body));
  }

  take(name) {
    const { id } = this.answer.held[name];
    return this.change(name, undefined, () => retract(id, this.answer.id));
  }

  undo() {
    const name = this.undoes;
    if (!name || !this.answer.held[name]) return;
    this.take(name);
    (name === "thumbs" ? this.thumbs[0] : this.openers[name]).focus();
  }

  // Show it at once, tell the server in order, and go back if the server says no.
  change(name, next, tell) {
    const before = this.answer.held[name];
    this.set(name, next);
    this.queue = this.queue.then(async () => {
      try {
        await tell();
        this.note(next ? words.done[name] : words.takenBack, next ? name : null);
        this.follow(true);
        this.line.parentElement.scrollIntoView({ block: "nearest" });
      } catch (error) {
        if (this.answer.held[name] === next) this.set(name, before);
        this.note(words.notSaved(error.message), null);
      }
    });
    return this.queue;
  }

  set(name, next) {
    if (next) this.answer.held[name] = next;
    else delete this.answer.held[name];
    this.show();
    this.keep();
  }

  show() {
    const { value, metadata } = this.answer.held.thumbs ?? {};
    for (const thumb of this.thumbs) thumb.setAttribute("aria-pressed", String(thumb.dataset.thumb === value));
    for (const chip of this.chips) {
      chip.setAttribute("aria-pressed", String(metadata?.reasons?.includes(chip.dataset.reason) ?? false));
    }
    this.reasons.hidden = value !== "down";
    for (const name of KINDS) this.openers[name].classList.toggle("has", Boolean(this.answer.held[name]));
  }

  note(text, undoes) {
    this.undoes = undoes;
    this.line.hidden = false;
    this.saved.textContent = text;
    this.undoButton.hidden = !undoes;
    this.say(text);
  }

  open(name) {
    const form = this.panels[name];
    if (!form.hidden) return this.close(name, true);
    for (const other of KINDS) if (other !== name) this.close(other);
    const field = form.querySelector("textarea");
    field.value = this.answer.held[name]?.value ?? (name === "correction" ? this.answer.text : "");
    form.hidden = false;
    this.openers[name].setAttribute("aria-expanded", "true");
    field.focus();
  }

  close(name, focus = false) {
    this.panels[name].hidden = true;
    this.openers[name].setAttribute("aria-expanded", "false");
    if (focus) this.openers[name].focus();
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.answer.text);
    } catch {
      return this.note(strings.copyRefused, null);
    }
    this.note(strings.copied, null);
    this.signal("copied");
  }

  // What somebody did with an answer says something about it; losing the signal harms nobody.
  signal(value) {
    judge({ id: newId("page"), interaction_id: this.answer.id, name: "signal", value }).catch(() => {});
  }
}
