// Which policy and version answers, and how: the picker in the bar, and a drawer with the system prompt and sampling.
import { h, icon, iconButton } from "./dom.js";
import { strings } from "./strings.js";

const words = strings.chat;
const SAMPLING = [
  { name: "temperature", min: 0, max: 2, step: 0.1 },
  { name: "top_p", min: 0.05, max: 1, step: 0.05 },
  { name: "max_tokens", min: 1, max: 100000, step: 1 },
  { name: "seed", min: 0, max: 4294967295, step: 1 },
];
const FRESH_MS = 5000;
const LISTED = 100; // of the latest versions

export class Settings {
  constructor(api, changed) {
    Object.assign(this, { api, changed, listed: 0, wanted: "" });
    this.select = h("select", { id: "model", onfocus: () => this.refresh(), onchange: () => this.changed() },
      h("option", { value: "default" }, "default"));
    this.against = h("select", { id: "against", onfocus: () => this.refresh() }, h("option", { value: "default@1" }, "default@1"));
    this.beside = h("span", { hidden: true }, h("label", { class: "sr", for: "against" }, strings.pair.against), this.against);
    this.compare = iconButton("pair", strings.pair.compare, () => this.compareTwo(this.beside.hidden), { "aria-pressed": "false" });
    this.picker = h("span", { class: "picker" },
      h("label", { class: "sr", for: "model" }, words.model), this.select, this.beside, this.compare);
    this.opener = h("button", { type: "button", class: "quiet", "aria-haspopup": "dialog", onclick: () => this.drawer.showModal() },
      icon("tune"), h("span", { class: "wide" }, words.settings));
    this.drawer = this.buildDrawer();
  }

  buildDrawer() {
    this.prompt = h("textarea", { rows: 4, maxlength: 20000, placeholder: words.systemHint, onchange: () => this.set() });
    this.inputs = SAMPLING.map(({ name, ...bounds }) => h("input", {
      type: "number", name, placeholder: words.modelDefault, inputmode: "decimal", ...bounds, onchange: () => this.set(),
    }));
    const fields = this.inputs.map((input) => h("label", { class: "field" }, words.sampling[input.name], input));
    const drawer = h("dialog", { class: "drawer", "aria-labelledby": "drawer-title" },
      h("form", { method: "dialog", onsubmit: () => this.set() },
        h("h2", { id: "drawer-title" }, words.settings),
        h("label", { class: "field" }, words.system, this.prompt),
        h("div", { class: "pairs" }, fields),
        h("p", { class: "small" }, words.settingsHint),
        h("div", { class: "row" },
          h("button", { type: "submit", class: "primary" }, words.done),
          h("button", { type: "button", class: "secondary", onclick: () => this.reset() }, words.reset))));
    document.body.append(drawer);
    return drawer;
  }

  // Whether each question is answered by two versions, side by side.
  compareTwo(on) {
    this.beside.hidden = !on;
    this.compare.setAttribute("aria-pressed", String(on));
    if (on) this.refresh();
  }

  // The models that answer a question: one, or two in an order that nobody knows.
  models() {
    const both = [this.select.value, this.against.value];
    if (this.beside.hidden) return both.slice(0, 1);
    return crypto.getRandomValues(new Uint8Array(1))[0] % 2 ? both : both.reverse();
  }

  set() {
    const given = this.prompt.value.trim() || this.inputs.some((input) => input.value !== "");
    this.opener.classList.toggle("has", Boolean(given));
    this.changed();
  }

  reset() {
    this.prompt.value = "";
    for (const input of this.inputs) input.value = "";
    this.set();
  }

  system() {
    return this.prompt.value;
  }

  // The fields of a chat request.
  body() {
    const body = { model: this.select.value };
    for (const input of this.inputs) {
      if (input.value !== "" && input.validity.valid) body[input.name] = Number(input.value);
    }
    return body;
  }

  // As a conversation keeps it, and back.
  chosen() {
    return { ...this.body(), system: this.system() };
  }

  use({ model = this.select.value, system = "", ...sampling } = {}) {
    this.prompt.value = system;
    for (const input of this.inputs) input.value = sampling[input.name] ?? "";
    this.wanted = model;
    this.choose(model);
    this.opener.classList.toggle("has", Boolean(system || Object.keys(sampling).length));
  }

  choose(model) {
    if ([...this.select.options].some((option) => option.value === model)) this.select.value = model;
  }

  // What can be asked for changes while the page is open: looked up when it is about to be used.
  async refresh() {
    if (Date.now() - this.listed < FRESH_MS) return;
    this.listed = Date.now();
    try {
      await this.list();
    } catch (error) {
      if (!(error instanceof this.api.ApiError)) throw error;
      this.listed = 0; // the shell says what is wrong
    }
  }

  async list() {
    const found = await this.api.models();
    const known = await Promise.all(found.map((model) =>
      this.api.policy(model.id, LISTED).catch(() => ({ versions: [] }))));
    const groups = () => found.map((model, index) => {
      const now = model.version ? words.now(model.id, model.version) : model.id;
      const versions = (known[index].versions ?? []).map(({ version }) => `${model.id}@${version}`).reverse();
      return h("optgroup", { label: model.id },
        h("option", { value: model.id }, now), versions.map((name) => h("option", { value: name }, name)));
    });
    if (!found.length) return;
    const [chosen, against] = [this.select.value, this.against.value];
    this.select.replaceChildren(...groups());
    this.against.replaceChildren(...groups());
    this.choose(chosen);
    if ([...this.against.options].some((option) => option.value === against)) this.against.value = against;
    if (this.wanted) this.choose(this.wanted);
    this.wanted = "";
  }
}
