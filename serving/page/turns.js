// One question, or one answer in all its tries, on the page. Turns are plain data (conversations.js); the classes
// here show them.
import { h, iconButton, rested } from "./dom.js";
import { judgementOf } from "./judgement.js";
import { GrowingMarkdown } from "./markdown.js";
import { strings } from "./strings.js";

const words = strings.chat;
const SLOW_MS = 8;
const REST = 6; // times as long as a slow frame's work

export function questionOf(turn, { edit }) {
  const text = h("p", {}, turn.text);
  return h("article", { class: "turn asked" },
    h("h2", { class: "sr" }, words.you), text,
    h("div", { class: "tools" }, iconButton("edit", words.edit, () => edit(turn))));
}

// An answer as it comes or as it was kept. `context`: {keep, say, api, regenerate, retry, blind}; a `blind`
// one is judged beside another (pair.js).
export class Answer {
  constructor(answer, context) {
    this.answer = answer;
    this.context = context;
    this.pending = "";
    this.frame = 0;
    this.rests = 0;
    this.text = h("div", { class: "text" });
    this.markdown = new GrowingMarkdown(this.text);
    this.extra = h("div", { class: "extra" });
    this.note = h("div", { class: "note", hidden: true });
    this.foot = h("div", { class: "foot" });
    const waiting = h("p", { class: "waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.node = h("article", { class: "turn answered", "aria-busy": String(!answer.done) },
      h("h2", { class: "sr" }, strings.product), this.extra, this.text, waiting, this.note, this.foot);
    if (answer.text) this.markdown.write(answer.text);
    if (answer.text) this.node.classList.add("begun");
    this.showExtra();
    if (answer.done) this.end();
  }

  // A chunk of the stream: who answers, and what is new.
  take(chunk) {
    const { answer } = this;
    answer.id ??= chunk.id;
    answer.version ??= chunk.system_fingerprint;
    const choice = chunk.choices?.[0];
    const { reasoning_content: thought, tool_calls: calls, content } = choice?.delta ?? {};
    if (thought) answer.thinking = (answer.thinking ?? "") + thought;
    for (const part of calls ?? []) addCall((answer.calls ??= []), part);
    if (content) {
      answer.text += content;
      this.pending += content;
      this.node.classList.add("begun");
    }
    if (choice?.finish_reason) answer.finish = choice.finish_reason;
    this.changedExtra ||= Boolean(thought || calls);
    // At most once per frame, however fast tokens come; more rarely where a frame's work has taken long.
    this.frame ||= requestAnimationFrame((now) => {
      this.frame = 0;
      if (now < this.rests) this.take({});
      else this.flush();
    });
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const began = performance.now();
    if (this.pending) this.markdown.write(this.pending);
    const took = performance.now() - began;
    this.rests = took > SLOW_MS ? began + REST * took : 0;
    this.pending = "";
    if (this.changedExtra) this.showExtra();
    this.changedExtra = false;
  }

  // Thoughts and calls of tools, folded.
  showExtra() {
    const { thinking, calls } = this.answer;
    if (thinking) {
      this.thinking ??= this.fold(words.thinking, "p");
      this.thinking.textContent = thinking;
    }
    (calls ?? []).forEach((call, index) => {
      this.calls ??= [];
      this.calls[index] ??= this.fold(words.call(call.name), "pre");
      this.calls[index].textContent = call.arguments;
    });
  }

  fold(title, name) {
    const inner = h(name, name === "pre" ? { tabindex: "0" } : {});
    this.extra.append(h("details", { class: "thinking" }, h("summary", {}, title), inner));
    return inner;
  }

  end() {
    const { answer, context } = this;
    const streamed = !answer.done;
    this.flush();
    answer.done = true;
    this.node.classList.add("done");
    this.node.setAttribute("aria-busy", "false");
    const note = noteOf(answer);
    const again = answer.error && context.retry &&
      h("button", { type: "button", class: "secondary", onclick: context.retry }, strings.states.retry);
    this.note.replaceChildren(...[note && h("p", {}, note), again].filter(Boolean));
    this.note.hidden = !note;
    this.note.classList.toggle("error", Boolean(answer.error));
    if (!answer.id || context.blind) return;
    const judge = () => { this.judgement ??= judgementOf(this.foot, answer, context); };
    if (streamed) rested().then(judge); // the end of a long text is a frame's work already
    else judge();
  }
}

function addCall(calls, part) {
  const call = (calls[part.index ?? calls.length] ??= { name: "", arguments: "" });
  call.name += part.function?.name ?? "";
  call.arguments += part.function?.arguments ?? "";
}

function noteOf(answer) {
  if (answer.error) return answer.error;
  if (answer.stopped) return words.youStopped;
  if (answer.finish === "length") return words.tooLong;
  if (!answer.text && !answer.calls) return words.empty;
  return "";
}
