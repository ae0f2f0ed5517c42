// The conversations of this browser: one entry of localStorage each, and a list of them, newest first.
//
// A conversation is {id, title, at, settings, turns}; a turn is {role: "user", text} or {role: "assistant", answers,
// shown}, where `answers` are the tries at one answer, oldest first, and `shown` says which one the talk goes on
// from. An answer is {text, thinking?, calls?, id?, version?, finish?, error?, stopped?, done?, held?}.
import { newId } from "./api.js";

const LIST = "burnish.conversations";
const ONE = "burnish.conversation.";
const TITLE = 60;

export class Conversations {
  constructor(storage = localStorage) {
    this.storage = storage;
    this.listed = this.read(LIST, []).filter((one) => one?.id);
  }

  // Also where another tab has deleted it: then null.
  open(id) {
    const kept = this.read(ONE + id, null);
    return Array.isArray(kept?.turns) ? kept : null;
  }

  begin() {
    return { id: newId("talk"), title: "", at: Date.now() / 1000, settings: {}, turns: [] };
  }

  // Whether it is kept; not where storage is full or forbidden: then it lives as long as the page.
  keep(one) {
    one.title ||= titleOf(one);
    one.at = Date.now() / 1000;
    const { id, title, at } = one;
    this.listed = [{ id, title, at }, ...this.listed.filter((other) => other.id !== id)];
    return this.write(ONE + id, one) && this.write(LIST, this.listed);
  }

  rename(id, title) {
    for (const one of this.listed) if (one.id === id) one.title = title;
    this.write(LIST, this.listed);
    const kept = this.open(id);
    if (kept) this.write(ONE + id, { ...kept, title });
  }

  // Returns what undoes it.
  remove(id) {
    const place = this.listed.findIndex((one) => one.id === id);
    const [entry] = this.listed.splice(place, 1);
    const kept = this.open(id);
    this.write(LIST, this.listed);
    this.storage.removeItem(ONE + id);
    return () => {
      this.listed.splice(place, 0, entry);
      this.write(ONE + id, kept);
      this.write(LIST, this.listed);
    };
  }

  read(name, otherwise) {
    try {
      return JSON.parse(this.storage.getItem(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  }

  write(name, value) {
    try {
      this.storage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }
}

function titleOf(one) {
  const text = one.turns[0]?.text.trim().replace(/\s+/g, " ") ?? "";
  return text.length > TITLE ? `${text.slice(0, TITLE - 1)}…` : text;
}

// What the model is sent: everything said so far that has words.
export function messagesOf(turns, system = "") {
  const said = turns
    .map((turn) => ({ role: turn.role, content: turn.role === "user" ? turn.text : turn.answers[turn.shown]?.text }))
    .filter((message) => message.content);
  return system.trim() ? [{ role: "system", content: system }, ...said] : said;
}
