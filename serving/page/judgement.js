// What a reader thinks of one answer: the element of burnish-feedback.js by our own way to the service, with the chat's
// own buttons beside its thumbs, and below it what becomes of the vote.
import "./burnish-feedback.js";
import { judge, newId, retract } from "./api.js";
import { toast } from "./dialog.js";
import { h } from "./dom.js";
import { FateLine, whenSeen } from "./fate.js";
import { strings } from "./strings.js";

const words = strings.judgement;

const judgements = new Map(); // by answer, so that what could not be told yet outlives going elsewhere on the page

// The judgement of an answer, shown in `root`. `answer.held` is what the server holds, by name; `keep` is called
// whenever that changes.
export function judgementOf(root, answer, context) {
  const known = judgements.get(answer.id) ?? new Judgement(answer);
  judgements.set(answer.id, known);
  known.show(root, answer, context);
  return known;
}

class Judgement {
  constructor(answer) {
    this.answer = answer;
    this.fate = h("div");
    const changed = (change) => ({ detail }) => {
      change(detail);
      this.keep();
      this.follow(true);
      this.element.parentElement.scrollIntoView({ block: "nearest" });
    };
    this.element = h("burnish-feedback", {
      "onburnish-saved": changed((saved) => { this.answer.held[saved.name] = saved; }),
      "onburnish-retracted": changed(({ name }) => { delete this.answer.held[name]; }),
    });
    this.element.transport = this.transport(new Map());
  }

  show(root, answer, { api, keep, say, regenerate, pager }) {
    answer.held = this.answer.held ?? answer.held ?? {};
    Object.assign(this, { api, answer, keep });
    Object.assign(this.element, { answer: answer.text, speak: say });
    const tool = (text, onclick) => h("button", { type: "button", onclick }, text);
    this.element.replaceChildren(...[
      tool(strings.copy, () => this.copy()), regenerate && tool(words.regenerate, regenerate), pager,
      h("span", { class: "badge", title: words.badge }, answer.version ?? strings.unknownVersion),
    ].filter(Boolean));
    root.replaceChildren(this.element, this.fate);
    if (Object.keys(answer.held).length) whenSeen(this.fate, () => this.story || this.follow());
  }

  // Each kind of judgement keeps one id while it stands, so that what is told twice is one.
  transport(ids) {
    return {
      standing: async () => Object.entries(this.answer.held).map(([name, one]) => ({ ...one, name })),
      save: (judgement) => {
        const { name } = judgement;
        ids.set(name, ids.get(name) ?? this.answer.held[name]?.id ?? newId("page"));
        return judge({ ...judgement, id: ids.get(name), interaction_id: this.answer.id });
      },
      retract: async (id) => {
        await retract(id, this.answer.id);
        for (const [name, kept] of ids) if (kept === id) ids.delete(name);
      },
    };
  }

  // The story of what stands: of the thumb, where there is one.
  follow(fresh = false) {
    const { thumbs, correction, comment } = this.answer.held;
    const held = thumbs ?? correction ?? comment;
    this.story?.end();
    this.story = held && new FateLine(this.api, held.id, fresh);
    if (this.story) this.fate.replaceChildren(this.story.node);
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.answer.text);
    } catch {
      return void toast(strings.copyRefused);
    }
    toast(strings.copied);
    this.signal("copied");
  }

  // What somebody did with an answer says something about it; losing the signal harms nobody.
  signal(value) {
    judge({ id: newId("page"), interaction_id: this.answer.id, name: "signal", value }).catch(() => {});
  }
}
