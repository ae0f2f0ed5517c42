// What an empty chat says: examples that fit the model that is served, and the way to the tour (tour.js).
import { h } from "./dom.js";
import { strings } from "./strings.js";

const words = strings.welcome;
let found = null;

// Prompts that the model which is served can do something with.
export async function examplesOf(api) {
  found ??= await api.get("/version").catch(() => null);
  return words.prompts[found?.model] ?? words.prompts.general;
}

export async function welcome(root, api, submit, tour) {
  const examples = h("ul", { class: "examples", "aria-label": words.examples });
  root.replaceChildren(h("h2", {}, words.title), h("p", {}, words.text), examples,
    h("p", { class: "small", hidden: !tour }, h("button", { type: "button", class: "link", onclick: tour }, words.tour)));
  const prompts = await examplesOf(api);
  examples.replaceChildren(...prompts.map((prompt) => h("li", {},
    h("button", { type: "button", onclick: () => submit(prompt) }, prompt))));
}
