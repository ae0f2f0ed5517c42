// The page: asks, streams, keeps the conversation. Judging an answer is judgement.js, showing
// one turns.js, the wire api.js. Left out: several conversations, tools, and the learning view.
import * as api from "./api.js";
import { Answer, showQuestion } from "./turns.js";

const KEPT = "burnish.conversation";
const at = (id) => document.getElementById(id);
const [ask, send, stop, conversation] = ["ask", "send", "stop", "conversation"].map(at);

let turns = load();
let running = null; // the AbortController of the answer that streams
let following = true;

// -- the conversation -------------------------------------------------------------------------

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "[]");
    return Array.isArray(kept) ? kept.filter((turn) => turn?.role && "text" in turn) : [];
  } catch {
    return [];
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(turns));
  } catch {
    // Full or forbidden: the conversation lives as long as the page.
  }
}

function show(turn) {
  at("welcome").hidden = true;
  if (turn.role === "user") return showQuestion(conversation, turn);
  return new Answer(conversation, turn, { changed: keep, say });
}

function say(text) {
  at("status").textContent = text;
}

// -- asking -----------------------------------------------------------------------------------

async function submit(text) {
  const question = { role: "user", text };
  const turn = { role: "assistant", text: "" };
  turns.push(question);
  show(question);
  const body = { model: at("model").value, messages: messages() };
  turns.push(turn);
  const answer = show(turn);
  running = new AbortController();
  busy(true);
  keep();
  say("Generating");
  following = true;
  follow();
  try {
    for await (const chunk of api.chat(body, running.signal)) answer.take(chunk);
    say("Answer complete");
  } catch (error) {
    if (error.name === "AbortError") {
      turn.stopped = true;
      say("Answer stopped");
    } else if (error instanceof api.ApiError) {
      turn.error = error.message;
      say(`Error: ${error.message}`);
      if (error.status === 401) askForKey();
    } else {
      turn.error = "The page failed while showing this answer.";
      throw error;
    }
  } finally {
    running = null;
    answer.end();
    keep();
    busy(false);
    follow();
    refreshModels(); // another version may have become the champion meanwhile
  }
}

// What the model is sent: everything said so far that has words.
function messages() {
  return turns
    .filter((turn) => turn.text)
    .map((turn) => ({ role: turn.role, content: turn.text }));
}

function busy(on) {
  // Focus must not fall off the page with the button that is hidden.
  const held = document.activeElement === send || document.activeElement === stop;
  send.hidden = on;
  stop.hidden = !on;
  at("new").disabled = on;
  if (held) ask.focus();
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = ask.value.trim();
  if (!text || running) return;
  ask.value = "";
  submit(text);
});

ask.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});

stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented) running?.abort();
});

at("examples").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || running) return;
  ask.focus();
  submit(button.textContent);
});

at("new").addEventListener("click", () => {
  turns = [];
  keep();
  conversation.replaceChildren();
  at("welcome").hidden = false;
  say("New chat");
  ask.focus();
});

// -- scrolling: follow the answer until the reader scrolls away, and again from the end ---------

function follow() {
  if (following) scrollTo({ top: document.documentElement.scrollHeight });
}

// Only what the reader does counts: a scroll event may be the page's own doing.
const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 48;
let backToEnd = false;
function steer(down) {
  if (!down) following = false;
  backToEnd = down;
}
addEventListener("wheel", (event) => event.deltaY && steer(event.deltaY > 0), { passive: true });
addEventListener("touchmove", () => {
  steer(false);
  backToEnd = true; // which way shows when the finger is gone
}, { passive: true });
addEventListener("keydown", (event) => {
  if (event.target.closest("textarea, select, input")) return;
  if (["PageUp", "Home", "ArrowUp"].includes(event.key)) steer(false);
  if (["PageDown", "End", "ArrowDown", " "].includes(event.key)) steer(true);
});
addEventListener("scrollend", () => {
  if (backToEnd && atEnd()) following = true;
});
new ResizeObserver(() => running && follow()).observe(conversation);

// -- which version answers ----------------------------------------------------------------------

async function listModels() {
  const select = at("model");
  const chosen = select.value;
  const found = await api.models();
  const groups = await Promise.all(found.map(async (model) => {
    const group = document.createElement("optgroup");
    group.label = model.id;
    const now = model.version ? `${model.id} (now ${model.version})` : model.id;
    group.append(new Option(now, model.id));
    const known = await api.policy(model.id).catch(() => ({ versions: [] }));
    for (const { version } of known.versions ?? []) {
      group.append(new Option(`${model.id}@${version}`, `${model.id}@${version}`));
    }
    return group;
  }));
  if (!groups.length) return;
  select.replaceChildren(...groups);
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
}

// What can be asked for changes while the page is open: look again when it is about to be used.
let listed = 0;
async function refreshModels() {
  if (Date.now() - listed < 5000) return;
  listed = Date.now();
  try {
    await listModels();
  } catch (error) {
    if (error.status === 401) askForKey();
  }
}
at("model").addEventListener("focus", refreshModels);

// -- the key, where the server wants one --------------------------------------------------------

function askForKey() {
  const dialog = at("key");
  if (!dialog.open) dialog.showModal();
}

at("key").querySelector("form").addEventListener("submit", () => {
  api.useKey(at("key-value").value.trim());
  at("key-value").value = "";
  listed = 0;
  refreshModels();
});
at("key").querySelector("[value=cancel]").addEventListener("click", () => at("key").close());

for (const turn of turns) {
  if (turn.role === "assistant" && !turn.done) turn.stopped = turn.done = true; // left mid-answer
  show(turn);
}
follow();
refreshModels();
