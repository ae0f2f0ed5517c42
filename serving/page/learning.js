// The learning view: to come.
import { h } from "./dom.js";
import { nothing } from "./states.js";

export function mount(root, { strings }) {
  root.append(h("h1", {}, strings.views.learning), nothing(strings.states.loading));
  return () => {};
}
