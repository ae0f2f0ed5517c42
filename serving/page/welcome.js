// What an empty chat says: examples that fit the model that is served.
import { h } from "./dom.js";
import { strings } from "./strings.js";

const words = strings.welcome;

export async function welcome(root, api, submit) {
  const examples = h("ul", { class: "examples", "aria-label": words.examples });
  const show = (prompts) => examples.replaceChildren(...prompts.map((prompt) => h("li", {},
    h("button", { type: "button", onclick: () => submit(prompt) }, prompt))));
  show(words.prompts.general);
  root.replaceChildren(h("h2", {}, words.title), h("p", {}, words.text), examples);
  const { model } = await api.get("/version").catch(() => ({}));
  show(words.prompts[model] ?? words.prompts.general);
}
