// The first five minutes: the loop explained by doing it. Three questions, three thumbs, an update, and the first
// question again, with the words that changed marked. It says so honestly where the learner wants more votes.
import { bothAnswers, compared } from "./changes.js";
import { h } from "./dom.js";
import { strings } from "./strings.js";

const words = strings.tour;
const KEPT = "burnish.tour";
const WANTED = 3;

export class Tour {
  // `examples` resolves to prompts that fit the model; `ask` sends one.
  constructor(api, { examples, ask }) {
    Object.assign(this, { api, examples, ask, asked: 0, thumbs: 0, said: "", before: null, first: null });
    this.step = 0;
    this.body = h("div");
    this.summary = h("summary");
    this.node = h("details", { class: "tour card" }, this.summary, this.body);
    this.node.hidden = remembered() !== null;
    this.show();
  }

  open() {
    forget();
    this.node.hidden = false;
    this.node.open = true;
    this.show();
    this.summary.focus();
  }

  close() {
    remember("closed");
    this.node.hidden = true;
    this.stop?.();
  }

  // What stands in the conversation that shows.
  update(turns) {
    const answers = turns.filter((turn) => turn.role === "assistant").map((turn) => turn.answers[turn.shown]);
    const asked = answers.filter((answer) => answer?.done).length;
    const thumbs = answers.filter((answer) => answer?.held?.thumbs).length;
    if (asked === this.asked && thumbs === this.thumbs) return;
    if (!this.asked && asked) this.node.open = true; // somebody has begun
    Object.assign(this, { asked, thumbs });
    this.first = turns.find((turn) => turn.role === "user")?.text ?? null;
    this.before ??= answers[0]?.version ?? null;
    if (this.step < 2) this.step = thumbs >= WANTED ? 2 : asked >= WANTED ? 1 : 0;
    this.show();
  }

  async show() {
    if (this.node.hidden) return;
    this.summary.textContent = words.title(this.step + 1);
    const counts = [[this.asked, WANTED], [this.thumbs, WANTED]];
    const steps = h("ol", { class: "steps" }, words.steps.map((text, index) => h("li", {
      class: index < this.step ? "done" : index === this.step ? "next" : "open", "aria-current": index === this.step && "step",
    }, text, index < 2 && h("span", { class: "soft" }, ` ${Math.min(...counts[index])}/${WANTED}`))));
    const parts = [h("p", { class: "soft" }, words.text[this.step]), ...await this.offered()];
    this.body.replaceChildren(steps, ...parts,
      h("div", { class: "row" }, h("button", { type: "button", class: "link", onclick: () => this.close() }, words.close)));
  }

  async offered() {
    const button = (text, onclick, name = "primary") => h("button", { type: "button", class: name, onclick }, text);
    if (this.step < 2) {
      if (this.asked >= WANTED) return [];
      const prompts = await this.examples();
      const next = prompts[this.asked % prompts.length];
      return [h("div", { class: "row" }, button(words.askNext(next), () => this.ask(next), "secondary"))];
    }
    if (this.step === 2) {
      return [this.said && h("p", {}, this.said), h("div", { class: "row" }, button(words.update, () => this.train()))].filter(Boolean);
    }
    return [this.shown ?? h("div", { class: "row" }, button(words.again, () => this.again()))];
  }

  // Ask for an update, then wait for what the learner says of it.
  async train() {
    const policy = (this.before ?? "default@1").split("@")[0];
    this.said = words.training;
    this.show();
    try {
      this.stop ??= this.api.events("/v1/learner/events", (name, told) => this.hear(policy, name, told));
      await this.api.post("/v1/learner/update", { policy });
    } catch (error) {
      if (!("status" in error)) throw error;
      this.said = strings.learning.notDone(error.message);
      this.show();
    }
  }

  hear(policy, name, told) {
    if (name === "tick" && told.kind === "update" && told.policy === policy && told.why_not) {
      this.said = words.wants(told.why_not);
      this.show();
    }
    const champion = name === "policies" && told.policies[policy]?.champion;
    if (champion && `${policy}@${champion}` !== this.before) {
      this.step = 3;
      this.show();
    }
  }

  async again() {
    const policy = this.before.split("@")[0];
    this.shown = h("p", { class: "state busy" }, h("span", { class: "spinner" }), strings.changes.asking);
    this.show();
    try {
      this.shown = h("div", {}, h("p", {}, h("strong", {}, this.first)), compared(await bothAnswers(this.api, this.first, this.before, policy)));
      this.step = 4;
      this.stop?.();
    } catch (error) {
      if (!("status" in error)) throw error;
      this.shown = null;
      this.said = error.message;
    }
    this.show();
  }
}

function remembered() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function remember(value) {
  try {
    localStorage.setItem(KEPT, value);
  } catch {
    // Without storage it is told again next time.
  }
}

function forget() {
  try {
    localStorage.removeItem(KEPT);
  } catch {
    // Nothing was kept.
  }
}
