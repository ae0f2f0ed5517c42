// The playground: conversations, asking, streaming. Kept while other views show, so that an answer goes on.
//
// Judging an answer is judgement.js, showing one turns.js, the list of conversations sidebar.js, versions and
// sampling settings.js, following the end scroll.js, what an empty chat says welcome.js.
import { Conversations, messagesOf } from "./conversations.js";
import { toast } from "./dialog.js";
import { h, icon, rested } from "./dom.js";
import { PairView } from "./pair.js";
import { pathTo } from "./router.js";
import { Follower } from "./scroll.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { strings } from "./strings.js";
import { Tour } from "./tour.js";
import { Answer, questionOf } from "./turns.js";
import { examplesOf, welcome } from "./welcome.js";

export const keeps = true;
const words = strings.chat;
const DRAFT = "burnish.draft";

export function mount(root, context) {
  const chat = new Chat(root, context);
  context.onPath(([id]) => chat.follow(id));
  return () => {};
}

class Chat {
  constructor(root, { api, say, path }) {
    Object.assign(this, { api, say, running: null, shown: new Map(), views: new WeakMap() });
    this.store = new Conversations();
    this.build(root);
    this.follower = new Follower(this.thread, () => this.running !== null);
    addEventListener("pagehide", () => this.keep());
    addEventListener("burnish-key", () => {
      this.settings.refresh();
      this.judgeAgain();
    });
    addEventListener("burnish-back", () => {
      this.askAgain();
      this.judgeAgain();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented) this.running?.abort();
    });
    // "#/chat" alone is a new chat; no address at all goes on where this browser was.
    this.follow(path[0] ?? (location.hash ? undefined : this.store.listed[0]?.id));
    this.settings.refresh();
  }

  // -- the page ---------------------------------------------------------------------------------

  build(root) {
    this.settings = new Settings(this.api, () => this.keep());
    this.sidebar = new Sidebar(this.store, { begin: () => this.begin(), removed: (id) => this.removed(id) });
    this.tour = new Tour(this.api, {
      examples: () => examplesOf(this.api),
      ask: (text) => this.running || this.submit(text),
    });
    this.welcome = h("section", { id: "welcome" });
    this.thread = h("section", { id: "conversation", "aria-label": words.conversation });
    this.field = h("textarea", {
      id: "ask", rows: 1, placeholder: words.placeholder, autocomplete: "off", autofocus: true,
      oninput: () => remember(this.field.value),
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.form.requestSubmit();
      },
    });
    this.field.value = remembered();
    this.send = h("button", { id: "send", type: "submit", "aria-label": words.send, title: words.sendHint }, icon("send"));
    this.stop = h("button", {
      id: "stop", type: "button", "aria-label": words.stop, title: words.stopHint, hidden: true,
      onclick: () => this.running?.abort(),
    }, icon("stop"));
    this.form = h("form", {
      id: "composer", "aria-label": words.composer,
      onsubmit: (event) => {
        event.preventDefault();
        const text = this.field.value.trim();
        if (!text || this.running) return;
        this.field.value = "";
        remember("");
        this.submit(text);
      },
    }, h("label", { class: "sr", for: "ask" }, words.ask), this.field, this.send, this.stop);
    root.append(
      this.sidebar.node,
      h("div", { class: "talk" },
        h("h1", { class: "sr" }, words.title),
        h("div", { class: "bar" }, this.sidebar.opener, this.settings.picker, this.settings.opener),
        this.welcome, this.tour.node, this.thread,
        h("div", { class: "asking" }, this.form, h("p", { class: "hint" }, words.hint))));
  }

  // -- which conversation -------------------------------------------------------------------------

  follow(id) {
    if (this.talk && (!id || id === this.talk.id)) return; // back from another view
    this.running?.abort();
    this.show((id && this.store.open(id)) || this.store.begin());
  }

  begin() {
    if (this.running) return;
    this.show(this.store.begin());
    history.replaceState(null, "", pathTo("chat"));
    this.say(words.begun);
    this.field.focus();
  }

  removed(id) {
    if (id === this.talk.id) this.begin();
  }

  show(talk) {
    this.talk = talk;
    this.shown.clear();
    this.thread.replaceChildren();
    this.settings.use(talk.settings);
    for (const turn of talk.turns) {
      for (const answer of turn.answers ?? []) {
        if (!answer.done) answer.stopped = answer.done = true; // left mid-answer
      }
      this.append(turn);
    }
    this.showWelcome();
    this.sidebar.show(talk.id);
    this.follower?.toEnd();
  }

  showWelcome() {
    this.welcome.hidden = this.talk.turns.length > 0;
    const submit = (text) => this.running || this.submit(text);
    if (!this.welcome.hidden) welcome(this.welcome, this.api, submit, this.tour.node.hidden && (() => this.tour.open()));
    this.tour.update(this.talk.turns);
  }

  append(turn) {
    const node = turn.role === "user" ? questionOf(turn, { edit: (one) => this.edit(one) }) : this.answered(turn);
    const before = this.shown.get(turn);
    if (before) before.replaceWith(node);
    else this.thread.append(node);
    this.shown.set(turn, node);
    return node;
  }

  answered(turn) {
    const context = {
      api: this.api,
      say: this.say,
      keep: () => this.keep(),
      regenerate: () => this.regenerate(turn),
      retry: () => this.regenerate(turn),
    };
    const view = turn.pair
      ? new PairView(turn, context)
      : new Answer(turn.answers[turn.shown], { ...context, pager: this.pager(turn) });
    this.views.set(turn, view);
    return view.node;
  }

  // Which of the tries shows, where there are several.
  pager(turn) {
    if (turn.answers.length < 2) return null;
    const step = (by) => () => {
      turn.shown = Math.min(Math.max(turn.shown + by, 0), turn.answers.length - 1);
      this.keep();
      this.append(turn).querySelector(".pager button:not(:disabled)")?.focus();
      this.say(words.tryOf(turn.shown + 1, turn.answers.length));
    };
    const button = (label, by, off) => h("button", {
      type: "button", "aria-label": label, title: label, disabled: off, onclick: step(by),
    }, by < 0 ? "‹" : "›");
    return h("span", { class: "pager" },
      button(words.earlier, -1, turn.shown === 0),
      h("span", {}, `${turn.shown + 1}/${turn.answers.length}`),
      button(words.later, 1, turn.shown === turn.answers.length - 1));
  }

  keep() {
    this.tour.update(this.talk.turns);
    if (!this.talk.turns.length) return;
    this.talk.settings = this.settings.chosen();
    const kept = this.store.keep(this.talk);
    if (!kept && !this.warned) toast(words.storageFull);
    this.warned = !kept;
  }

  // -- asking -----------------------------------------------------------------------------------

  submit(text) {
    const question = { role: "user", text };
    this.talk.turns.push(question);
    this.append(question);
    this.welcome.hidden = true;
    return this.answer({ role: "assistant", answers: [], shown: 0 });
  }

  // Ask for one more try at `turn`, which is the last one; for two at once where versions are compared.
  async answer(turn) {
    if (!this.talk.turns.includes(turn)) this.talk.turns.push(turn);
    const said = this.talk.turns.slice(0, this.talk.turns.indexOf(turn));
    const messages = messagesOf(said, this.settings.system());
    const bodies = this.settings.models().map((model) => ({ ...this.settings.body(), model, messages }));
    if (bodies.length > 1) {
      turn.answers = []; // a pair is judged as a pair
      turn.pair = { vote: null };
    } else {
      delete turn.pair;
    }
    const tries = bodies.map(() => ({ text: "" }));
    turn.shown = turn.answers.push(...tries) - tries.length;
    this.append(turn);
    const shown = this.views.get(turn);
    this.running = new AbortController();
    this.busy(true);
    this.keep();
    this.sidebar.show(this.talk.id);
    history.replaceState(null, "", pathTo("chat", this.talk.id));
    this.say(words.generating);
    this.follower.toEnd();
    const ends = await Promise.all(tries.map((one, index) => this.take(one, bodies[index], shown.views?.[index] ?? shown)));
    this.running = null;
    shown.end();
    this.say(ends.find((end) => end) ?? words.complete);
    this.keep();
    this.busy(false);
    await rested(); // a long answer's end is a frame's work already
    this.follower.follow();
    this.settings.refresh(); // another version may have become the champion meanwhile
  }

  // Stream one answer into its view; what to say where it did not come to its end.
  async take(answer, body, view) {
    try {
      for await (const chunk of this.api.chat(body, this.running.signal)) view.take(chunk);
      return "";
    } catch (error) {
      return this.failed(answer, error);
    } finally {
      view.end();
    }
  }

  failed(answer, error) {
    if (error.name === "AbortError") {
      answer.stopped = true;
      return words.stopped;
    }
    if (!(error instanceof this.api.ApiError)) {
      answer.error = words.pageFailed;
      throw error;
    }
    // Nothing was asked where nothing was reached: it is asked by itself when the server is back.
    answer.waits = error.code === "unreachable" && !answer.text;
    answer.error = answer.waits ? words.waits : error.message;
    return words.error(answer.error);
  }

  askAgain() {
    const turn = this.talk.turns.at(-1);
    if (!this.running && turn?.answers?.[turn.shown]?.waits) this.regenerate(turn);
  }

  // There is a way to the service again: votes that wait take it.
  judgeAgain() {
    for (const element of this.thread.querySelectorAll("burnish-feedback")) element.transport = element.transport;
  }

  // One more try; what was said after it goes, and can be brought back.
  regenerate(turn) {
    if (this.running) return;
    const old = turn.answers[turn.shown];
    const later = this.cut(this.talk.turns.indexOf(turn) + 1);
    if (old.text && old.id) this.views.get(turn).judgement?.signal("regenerated");
    if (!old.text && !old.id) turn.answers.splice(turn.shown, 1); // nothing came of that try
    this.offerBack(later, () => {});
    this.answer(turn);
    this.field.focus();
  }

  // Put a question back into its own field; sending it takes what followed away.
  edit(turn) {
    if (this.running) return;
    const node = this.shown.get(turn);
    const field = h("textarea", { rows: 2, value: turn.text });
    const back = () => this.append(turn).querySelector("button").focus();
    const form = h("form", {
      class: "turn editing", "aria-label": words.editing,
      onsubmit: (event) => {
        event.preventDefault();
        const text = field.value.trim();
        if (!text || this.running) return;
        this.offerBack(this.cut(this.talk.turns.indexOf(turn)), back);
        this.submit(text);
        this.field.focus();
      },
      onkeydown: (event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          back();
        }
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          form.requestSubmit();
        }
      },
    },
      h("label", { class: "field" }, words.ask, field),
      h("div", { class: "row" },
        h("button", { type: "submit", class: "primary" }, words.resend),
        h("button", { type: "button", class: "secondary", onclick: back }, strings.cancel)));
    node.replaceWith(form);
    this.shown.set(turn, form);
    field.focus();
  }

  // Take away the turns from `place` on; they are returned.
  cut(place) {
    const gone = this.talk.turns.splice(place);
    for (const turn of gone) {
      this.shown.get(turn)?.remove();
      this.shown.delete(turn);
    }
    return gone;
  }

  offerBack(gone) {
    if (!gone.length) return;
    const { talk } = this;
    const place = talk.turns.length;
    toast(words.cut(gone.length), {
      label: strings.undo,
      run: () => {
        this.running?.abort();
        talk.turns.splice(place, Infinity, ...gone);
        this.store.keep(talk);
        this.show(talk);
      },
    });
  }

  busy(on) {
    // Focus must not fall off the page with the button that is hidden.
    const held = [this.send, this.stop].includes(document.activeElement);
    this.send.hidden = on;
    this.stop.hidden = !on;
    this.sidebar.busy(on);
    if (held) this.field.focus();
  }
}

// What is typed and not yet sent outlives a reload.
function remember(text) {
  try {
    localStorage.setItem(DRAFT, text);
  } catch {
    // Without storage it lives as long as the page.
  }
}

function remembered() {
  try {
    return localStorage.getItem(DRAFT) ?? "";
  } catch {
    return "";
  }
}
