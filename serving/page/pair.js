// Two versions side by side, blind: which of them wrote which shows once somebody has said which answer is better.
// The vote is a preference pair: "better" on the one, "worse" on the other, each naming the other.
import { judgeAll, newId, retract } from "./api.js";
import { h } from "./dom.js";
import { FateLine, whenSeen } from "./fate.js";
import { strings } from "./strings.js";
import { Answer } from "./turns.js";

const words = strings.pair;
const VALUES = { a: ["better", "worse"], b: ["worse", "better"], tie: ["tie", "tie"] };

// `turn.pair` is {vote, ids}: what was said, and under which ids the server has it. `context` as of an Answer.
export class PairView {
  constructor(turn, context) {
    Object.assign(this, { turn, context });
    this.views = turn.answers.map((answer) => new Answer(answer, { ...context, blind: true }));
    this.labels = this.views.map(() => h("span", { class: "badge" }));
    this.line = h("p", { class: "saved" });
    this.story = h("div");
    this.buttons = Object.entries(words.votes).map(([vote, label]) => h("button", {
      type: "button", class: "secondary", "aria-pressed": "false", "data-vote": vote, onclick: () => this.vote(vote),
    }, label));
    this.choice = h("div", { class: "row", role: "group", "aria-label": words.question }, h("span", {}, words.question), this.buttons);
    this.node = h("div", { class: "turn pair" },
      h("div", { class: "sides" }, this.views.map((view, index) => h("div", { class: "side", role: "group", "aria-label": words.sides[index] },
        h("p", { class: "small soft" }, words.sides[index], " ", this.labels[index]), view.node))),
      this.choice, this.line, this.story);
    this.show();
    if (turn.pair.ids) whenSeen(this.story, () => this.story.append(new FateLine(context.api, turn.pair.ids[0]).node));
  }

  // Both have ended: now they can be compared.
  end() {
    this.show();
  }

  show() {
    const { answers, pair } = this.turn;
    const whole = answers.every((answer) => answer.done && answer.id && answer.text);
    this.choice.hidden = !whole;
    this.labels.forEach((label, index) => {
      label.textContent = pair.vote ? answers[index].version ?? strings.unknownVersion : words.hidden;
    });
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.vote === pair.vote));
  }

  async vote(vote) {
    const { turn, context } = this;
    if (turn.pair.vote === vote) return this.undo();
    const before = { ...turn.pair };
    const [a, b] = turn.answers.map((answer) => answer.id);
    const ids = before.ids ?? [newId("page"), newId("page")];
    turn.pair = { vote, ids };
    turn.shown = vote === "b" ? 1 : 0; // the talk goes on from the better one
    this.show();
    try {
      await judgeAll(VALUES[vote].map((value, index) => ({
        id: ids[index], interaction_id: index ? b : a, over: index ? a : b, name: "preference", value,
      })));
      this.told(words.saved(turn.answers[turn.shown].version, vote), true);
      this.story.replaceChildren(new FateLine(context.api, ids[0], true).node);
    } catch (error) {
      if (!("status" in error)) throw error;
      turn.pair = before;
      this.show();
      this.told(words.notSaved(error.message), false);
    }
    context.keep();
  }

  async undo() {
    const { turn, context } = this;
    try {
      await Promise.all(turn.pair.ids.map((id, index) => retract(id, turn.answers[index].id)));
    } catch (error) {
      if (!("status" in error)) throw error;
      return this.told(words.notSaved(error.message), false);
    }
    turn.pair = { vote: null };
    this.story.replaceChildren();
    this.show();
    this.told(words.takenBack, false);
    this.buttons[0].focus();
    context.keep();
  }

  told(text, undoes) {
    this.line.replaceChildren(text, " ",
      undoes ? h("button", { type: "button", class: "link", onclick: () => this.undo() }, strings.undo) : "");
    this.context.say(text);
  }
}
