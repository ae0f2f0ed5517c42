// One question or answer on the page. A turn is plain data that outlives the page (see app.js);
// the classes here show it.
import { Judgement } from "./judgement.js";
import { GrowingMarkdown } from "./markdown.js";

export function showQuestion(root, turn) {
  const article = copy("question");
  article.querySelector("p").textContent = turn.text;
  root.append(article);
}

export class Answer {
  constructor(root, turn, { changed, say }) {
    this.turn = turn;
    this.changed = changed;
    this.say = say;
    this.article = copy("answer");
    this.markdown = new GrowingMarkdown(this.article.querySelector(".text"));
    this.pending = "";
    this.frame = 0;
    root.append(this.article);
    if (turn.text) this.markdown.write(turn.text);
    if (turn.thinking) this.think("");
    if (turn.done) this.end();
    else this.article.setAttribute("aria-busy", "true");
  }

  // A chunk of the stream: who answers, and what is new.
  take(chunk) {
    this.turn.id ??= chunk.id;
    this.turn.version ??= chunk.system_fingerprint;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    if (choice.delta?.reasoning_content) this.think(choice.delta.reasoning_content);
    if (choice.delta?.content) this.write(choice.delta.content);
    if (choice.finish_reason) this.turn.finish = choice.finish_reason;
  }

  write(text) {
    this.turn.text += text;
    this.pending += text;
    this.article.classList.add("begun");
    // At most once per frame, however fast tokens come.
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.pending) this.markdown.write(this.pending);
    this.pending = "";
  }

  think(text) {
    this.turn.thinking = (this.turn.thinking ?? "") + text;
    const details = this.article.querySelector(".thinking");
    details.hidden = false;
    details.querySelector("p").textContent = this.turn.thinking;
  }

  end() {
    const { turn, article } = this;
    this.flush();
    turn.done = true;
    article.classList.add("done");
    article.setAttribute("aria-busy", "false");
    const note = article.querySelector(".note");
    note.textContent = noteOf(turn);
    note.hidden = !note.textContent;
    note.classList.toggle("error", Boolean(turn.error));
    if (!turn.id) return;
    article.querySelector(".badge").textContent = turn.version ?? "unknown version";
    article.querySelector(".tools").hidden = false;
    turn.held ??= {};
    const { id, text, held } = turn;
    new Judgement(article, { id, text, held, changed: this.changed, say: this.say });
  }
}

function noteOf(turn) {
  if (turn.error) return turn.error;
  if (turn.stopped) return "You stopped this answer.";
  if (turn.finish === "length") return "The answer reached its length limit.";
  if (!turn.text) return "The answer is empty.";
  return "";
}

function copy(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}
