// Before and after: the same prompt answered by the base and by the version that serves, the differing words marked.
import { h } from "./dom.js";
import { marked } from "./diff.js";
import { failed } from "./states.js";
import { strings } from "./strings.js";

const words = strings.changes;
const TOKENS = 400;

// Both answers to one prompt, without chance, and without a record: looking on is no use of the service.
export async function bothAnswers(api, prompt, before, after) {
  const ask = (model) => api.post("/v1/chat/completions", {
    model, messages: [{ role: "user", content: prompt }], temperature: 0, max_tokens: TOKENS, store: false,
  });
  const answers = await Promise.all([before, after].map(ask));
  return answers.map((answer) => ({
    text: answer.choices[0].message.content ?? "", version: answer.system_fingerprint ?? strings.unknownVersion,
  }));
}

export function compared([before, after]) {
  const sides = marked(before.text, after.text);
  const side = (answer, text, title) => h("div", { class: "side" },
    h("p", { class: "small soft" }, title, " ", h("span", { class: "badge" }, answer.version)),
    h("p", { class: "words" }, text));
  return h("div", {},
    h("div", { class: "sides" }, side(before, sides.before, words.before), side(after, sides.after, words.after)),
    h("p", { class: "small soft" }, sides.same ? words.same : words.legend));
}

// A card that compares on demand; `prompts` are offered, and any other can be typed.
export function changesCard(api, policy, prompts) {
  const field = h("input", { type: "text", required: true, maxlength: 2000, list: "prompts", value: prompts[0] ?? "" });
  const shown = h("div", { "aria-live": "off" });
  const button = h("button", { type: "submit", class: "primary" }, words.show);
  const form = h("form", {
    class: "row",
    async onsubmit(event) {
      event.preventDefault();
      button.disabled = true;
      shown.replaceChildren(h("p", { class: "state busy" }, h("span", { class: "spinner" }), words.asking));
      try {
        shown.replaceChildren(compared(await bothAnswers(api, field.value, `${policy}@1`, policy)));
      } catch (error) {
        if (!("status" in error)) throw error;
        shown.replaceChildren(failed(error, () => form.requestSubmit()));
      }
      button.disabled = false;
    },
  }, h("label", { class: "field grow" }, words.prompt, field), button);
  return [h("h2", {}, words.title), h("p", { class: "soft" }, words.text),
    h("datalist", { id: "prompts" }, prompts.map((prompt) => h("option", { value: prompt }))), form, shown];
}
