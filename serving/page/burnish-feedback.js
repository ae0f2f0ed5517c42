// <burnish-feedback token="fbt_..."></burnish-feedback>: what somebody thinks of an answer, on any page.
//
// A thumb is saved the moment it is pressed; thumbs down then offers reasons, a note and a correction. The token, minted
// by the product's server, allows that on one answer and nothing else; our own chat has a `transport` in its place
// (judgement.js). ops/docs/embedding.md has attributes, properties, events and parts. What is inside the element stands
// beside the thumbs: a page's own buttons for that answer.

const WAITS_MS = [2000, 4000, 8000, 15000];
const WORDS = {
  group: "Judge this answer",
  up: "Good answer",
  down: "Bad answer",
  more: "Say more",
  why: "What was wrong? (optional)",
  reasons: { wrong: "Not correct", missed: "Missed the question", long: "Too long", short: "Too short", tone: "Wrong tone" },
  comment: "A note (optional)",
  correction: "What it should have said (optional)",
  send: "Send feedback",
  close: "Close",
  undo: "Undo",
  retry: "Try again",
  saving: "Saving",
  saved: "Thank you, saved.",
  takenBack: "Taken back.",
  unreachable: "The server cannot be reached.",
  waiting: (why) => `Not saved yet, and tried again by itself: ${why}`,
  expired: "Not saved yet: this page has to renew its permission.",
  refused: (message) => `Not saved: ${message}`,
};
const THUMB = "M7 21V11m0 10H4V11h3m0 10h9.6a2 2 0 0 0 2-1.6l1.3-6A2 2 0 0 0 18 11h-4l.8-4.6A2 2 0 0 0 12.9 4L7 11";

const sheet = new CSSStyleSheet();
sheet.replaceSync([
  ':host { display: inline-block; max-width: 100%; font: 400 .9rem/1.5 system-ui, sans-serif; color: inherit; }',
  ':host([hidden]), [hidden] { display: none !important; }',
  '* { box-sizing: border-box; }',
  'button, textarea { font: inherit; color: inherit; }',
  'button { min-width: 2rem; min-height: 2rem; border: 1px solid var(--burnish-line, #8a7f74); border-radius: .5rem; background: none; cursor: pointer; }',
  'button:hover { background: color-mix(in srgb, currentColor 8%, transparent); }',
  'button[aria-pressed="true"] { background: var(--burnish-accent, light-dark(#96491a, #e8a878)); border-color: transparent; color: var(--burnish-on-accent, light-dark(#fff, #24160c)); }',
  ':focus-visible { outline: 2px solid var(--burnish-accent, light-dark(#96491a, #e8a878)); outline-offset: 2px; }',
  '.row { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }',
  '.thumb { display: inline-grid; place-items: center; padding: .2rem .5rem; }',
  '.more { padding: .2rem .6rem; }',
  '[data-value="down"] svg { transform: rotate(180deg); }',
  'svg { width: 1.1rem; height: 1.1rem; fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round; }',
  'form { margin-top: .5rem; padding: .75rem; border: 1px solid var(--burnish-line, #8a7f74); border-radius: .6rem; width: 26rem; max-width: 100%; }',
  'fieldset { margin: 0; padding: 0; border: 0; }',
  'legend { padding: 0; margin-bottom: .4rem; }',
  'label { display: block; margin-top: .6rem; }',
  'textarea { display: block; width: 100%; margin-top: .2rem; padding: .4rem .5rem; border: 1px solid var(--burnish-line, #8a7f74); border-radius: .5rem; background: transparent; resize: vertical; field-sizing: content; max-height: 40vh; }',
  '.chip { padding: .15rem .7rem; border-radius: 1rem; }',
  '.act { margin-top: .6rem; padding: .15rem .9rem; }',
  '.link { min-height: 1.5rem; border: 0; padding: 0 .3rem; text-decoration: underline; }',
  '@media (pointer: coarse) { button { min-width: 2.75rem; min-height: 2.75rem; } }',
].join(""));

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: nobody answered
  }
}

// How a browser with a token talks to the service.
const overHttp = (base, token) => {
  const call = async (method, path, body) => {
    const headers = { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) };
    let response;
    try {
      response = await fetch(new URL(path, base), { method, headers, body: body && JSON.stringify(body), credentials: "omit" });
    } catch {
      throw new Refused(0, "");
    }
    const told = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, told.error?.message ?? `status ${response.status}`);
    return told;
  };
  return {
    standing: () => call("GET", "/v1/feedback").then((list) => list.data),
    save: (judgement) => call("POST", "/v1/feedback", judgement),
    retract: (id) => call("DELETE", `/v1/feedback/${encodeURIComponent(id)}`),
  };
};

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat());
  return node;
}

function drawn() {
  const [svg, path] = ["svg", "path"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", THUMB);
  svg.append(path);
  return svg;
}

export class BurnishFeedback extends HTMLElement {
  static observedAttributes = ["token", "src"];
  #held = {}; // what the service holds, by name
  #words = WORDS;
  #transport = null;
  #work = []; // what is still to be told, in order
  #busy = false;
  #told = 0; // changes so far, so that an older answer does not undo them
  #tries = 0;
  #timer = 0;
  #undoes = null;
  #answer = "";
  #speak = null;

  get token() { return this.getAttribute("token") ?? ""; }
  set token(value) { this.setAttribute("token", value); }
  get transport() { return this.#transport; }
  set transport(value) { this.#transport = value; this.#ready(); }
  get strings() { return this.#words; }
  set strings(value) { this.#words = { ...WORDS, ...value }; if (this.shadowRoot) this.#build(); }
  get answer() { return this.#answer; }
  set answer(value) { this.#answer = value; }
  get speak() { return this.#speak; }
  set speak(value) { this.#speak = value; this.line?.setAttribute("role", value ? "none" : "status"); }
  get held() { return structuredClone(this.#held); }

  connectedCallback() {
    // A property that was set before the element was known.
    for (const name of ["answer", "speak", "strings", "transport", "token"]) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    if (!this.shadowRoot) {
      this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
      this.#build();
    }
    addEventListener("online", this.#again);
    this.#ready();
  }

  disconnectedCallback() {
    removeEventListener("online", this.#again); // what is still to be told is told all the same
  }

  attributeChangedCallback() {
    if (this.shadowRoot) this.#ready();
  }

  #again = () => { this.#tries = 0; this.#tell(); };

  // There is a way to the service, for the first time or anew.
  #ready() {
    if (!this.shadowRoot) return;
    const there = Boolean(this.#transport || this.token);
    this.group.hidden = !there;
    if (!there) return;
    if (this.#work.length) this.#again();
    else this.#recall();
  }

  get #way() {
    return this.#transport ?? overHttp(this.getAttribute("src") || new URL(import.meta.url).origin, this.token);
  }

  // Show again what was judged before; that it cannot be asked harms nobody.
  async #recall() {
    const told = this.#told;
    const found = await this.#way.standing().catch(() => null);
    if (!found || told !== this.#told) return;
    this.#held = Object.fromEntries(found.map((one) => [one.name, one]));
    this.#show();
  }

  #build() {
    const words = this.#words;
    const thumb = (value) => el("button", {
      type: "button", class: "thumb", part: "thumb", "aria-label": words[value], title: words[value], "aria-pressed": "false",
      "data-value": value, onclick: () => this.#thumb(value),
    }, drawn());
    this.thumbs = ["up", "down"].map(thumb);
    this.chips = Object.entries(words.reasons).map(([reason, label]) => el("button", {
      type: "button", class: "chip", "aria-pressed": "false", "data-reason": reason, onclick: () => this.#reason(reason),
    }, label));
    this.reasons = el("fieldset", {}, el("legend", {}, words.why), el("div", { class: "row" }, this.chips));
    this.fields = Object.fromEntries(["comment", "correction"].map((name) => [name, el("textarea", { rows: 2, maxlength: 8000 })]));
    // A correction begins from the answer, where the page has told it, as soon as somebody goes there.
    const { correction } = this.fields;
    correction.addEventListener("focus", () => { correction.value ||= this.#answer; });
    correction.addEventListener("blur", () => { if (correction.value === this.#answer) correction.value = ""; });
    this.more = el("button", {
      type: "button", class: "more", part: "more", "aria-expanded": "false",
      onclick: () => (this.panel.hidden ? this.#open(this.fields.comment) : this.#close(this.more)),
    }, words.more);
    this.panel = el("form", {
      hidden: true, part: "panel",
      onsubmit: (event) => { event.preventDefault(); this.#texts(); },
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.panel.requestSubmit();
        if (event.key !== "Escape") return;
        event.preventDefault(); // it closes the panel, and nothing else
        this.#close(this.more);
      },
    },
      this.reasons,
      Object.entries(this.fields).map(([name, field]) => el("label", {}, words[name], field)),
      el("div", { class: "row" },
        el("button", { type: "submit", class: "act" }, words.send),
        el("button", { type: "button", class: "act", onclick: () => this.#close(this.more) }, words.close)));
    this.line = el("span", { role: this.#speak ? "none" : "status" });
    this.action = el("button", { type: "button", class: "link", hidden: true });
    this.action.addEventListener("click", () => (this.#work.length ? this.#again() : this.#undo()));
    this.group = el("div", { role: "group", "aria-label": words.group, part: "group" },
      el("div", { class: "row" }, this.thumbs, this.more, el("slot"), el("span", { part: "line" }, this.line, this.action)), this.panel);
    this.shadowRoot.replaceChildren(this.group);
    this.#show();
  }

  #show() {
    const { value, metadata } = this.#held.thumbs ?? {};
    for (const thumb of this.thumbs) thumb.setAttribute("aria-pressed", String(thumb.dataset.value === value));
    for (const chip of this.chips) chip.setAttribute("aria-pressed", String(metadata?.reasons?.includes(chip.dataset.reason) ?? false));
    this.reasons.hidden = value !== "down";
  }

  #thumb(value) {
    if (this.#held.thumbs?.value === value) return this.#retract("thumbs");
    this.#save({ name: "thumbs", value }); // a fresh thumb has no reasons: those of the other one are stale
    if (value === "down") this.#open();
    else this.#close();
  }

  #reason(reason) {
    const reasons = new Set(this.#held.thumbs?.metadata?.reasons ?? []);
    if (!reasons.delete(reason)) reasons.add(reason);
    this.#save({ name: "thumbs", value: "down", metadata: { reasons: [...reasons] } });
  }

  #texts() {
    for (const [name, field] of Object.entries(this.fields)) {
      const value = field.value.trim();
      const before = this.#held[name]?.value ?? "";
      if (value && value !== before && field.value !== this.#answer) this.#save({ name, value });
      if (!value && before) this.#retract(name);
    }
    this.#close(this.more);
  }

  #open(focus = null) {
    for (const [name, field] of Object.entries(this.fields)) field.value ||= this.#held[name]?.value ?? "";
    this.panel.hidden = false;
    this.more.setAttribute("aria-expanded", "true");
    focus?.focus();
  }

  #close(focus = null) {
    this.panel.hidden = true;
    this.more.setAttribute("aria-expanded", "false");
    focus?.focus();
  }

  #undo() {
    const name = this.#undoes;
    if (name && this.#held[name]) this.#retract(name);
    (name === "thumbs" ? this.thumbs[0] : this.more).focus();
  }

  // Shown at once, told in order; what stood before comes back if the service says no.
  #save(judgement) {
    const before = this.#held[judgement.name];
    const next = { ...judgement };
    this.#held[judgement.name] = next;
    this.#put({ name: judgement.name, before, next, tell: async (way) => { next.id = (await way.save(judgement)).id; } });
  }

  #retract(name) {
    const before = this.#held[name];
    delete this.#held[name];
    if (name === "thumbs") this.#close();
    else this.fields[name].value = "";
    // Its id is known by the time that this is told: what saved it is told first.
    this.#put({ name, before, next: undefined, tell: (way) => before.id && way.retract(before.id) });
  }

  #put(change) {
    this.#show();
    this.#told += 1;
    this.#work.push(change);
    this.#tell();
  }

  async #tell() {
    clearTimeout(this.#timer);
    if (this.#busy) return;
    this.#busy = true;
    while (this.#work.length) {
      const change = this.#work[0];
      this.#say(this.#words.saving, "", false);
      try {
        await change.tell(this.#way);
      } catch (error) {
        const status = error.status ?? 0;
        if (!status || status === 401 || status === 429 || status >= 500) {
          this.#busy = false;
          return this.#wait(status, error.message);
        }
        this.#work.shift();
        this.#refused(change, error);
        continue;
      }
      this.#work.shift();
      this.#tries = 0;
      this.#done(change);
    }
    this.#busy = false;
  }

  // What could not be told is kept, and told again: with another token, or later.
  #wait(status, message) {
    if (status === 401) {
      this.#say(this.#words.expired);
      return this.#event("burnish-token-needed", {});
    }
    this.#say(this.#words.waiting(status ? message : this.#words.unreachable), this.#words.retry);
    this.#timer = setTimeout(() => this.#tell(), WAITS_MS[Math.min(this.#tries++, WAITS_MS.length - 1)]);
  }

  #done({ name, before, next }) {
    this.#undoes = next ? name : null;
    this.#say(next ? this.#words.saved : this.#words.takenBack, next && this.#words.undo);
    if (next) this.#event("burnish-saved", { ...next });
    else this.#event("burnish-retracted", { id: before.id, name });
  }

  #refused({ name, before, next }, error) {
    if (this.#held[name] === next) {
      if (before) this.#held[name] = before;
      else delete this.#held[name];
      this.#show();
    }
    if (next && this.fields[name]) { // what was typed is kept
      this.fields[name].value = next.value;
      this.#open();
    }
    this.#say(this.#words.refused(error.message));
    this.#event("burnish-failed", { message: error.message });
  }

  #say(text, action = "", aloud = true) {
    this.line.textContent = text;
    this.action.textContent = action || "";
    this.action.hidden = !action;
    if (aloud) this.#speak?.(text);
  }

  #event(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

customElements.define("burnish-feedback", BurnishFeedback);
