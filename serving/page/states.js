// What a view shows besides its content: loading, nothing yet, an error, no permission; and `load`, which goes
// through them and comes back by itself when the server does.
import { h } from "./dom.js";
import { strings } from "./strings.js";

const WAITS_S = [2, 4, 8, 15];
const words = strings.states;

export const loading = () => h("p", { class: "state busy" }, h("span", { class: "spinner", "aria-hidden": "true" }), words.loading);

export function nothing(title, text, ...actions) {
  return h("div", { class: "state" }, h("p", { class: "state-title" }, title), text && h("p", {}, text), ...actions);
}

// What went wrong and what to do about it, with a button where trying again can help.
export function failed(error, retry) {
  const [title, text] = explained(error);
  return h("div", { class: "state bad" },
    h("p", { class: "state-title" }, title), h("p", {}, text),
    retry && h("button", { type: "button", class: "secondary", onclick: retry }, words.retry));
}

function explained(error) {
  if (error.code === "unreachable") return [words.unreachable, words.unreachableText];
  if (error.status === 401) return [words.key, words.keyText];
  if (error.status === 403) return [words.forbidden, words.forbiddenText];
  return [words.failed, error.message];
}

// Fill `root` with what `render` makes of what `fetch` brings. Where that fails it is asked again: when the server is
// back, with another key, and ever more rarely while it is away. Returns {again, stop}.
export function load(root, fetch, render) {
  const hopes = ["burnish-back", "burnish-key"];
  let timer = 0;
  let tries = 0;
  let stopped = false;
  let bad = false;
  const wake = () => bad && again();
  const again = async () => {
    clearTimeout(timer);
    try {
      const found = await fetch();
      if (stopped) return;
      tries = 0;
      bad = false;
      root.replaceChildren(...[render(found)].flat());
    } catch (error) {
      if (stopped || error.name === "AbortError") return;
      if (!("status" in error)) throw error;
      bad = true;
      root.replaceChildren(failed(error, again));
      if (error.code !== "unreachable" && error.status < 500) return;
      timer = setTimeout(again, 1000 * WAITS_S[Math.min(tries, WAITS_S.length - 1)]);
      tries += 1;
    }
  };
  root.replaceChildren(loading());
  for (const hope of hopes) addEventListener(hope, wake);
  again();
  return {
    again,
    stop() {
      stopped = true;
      for (const hope of hopes) removeEventListener(hope, wake);
      clearTimeout(timer);
    },
  };
}
