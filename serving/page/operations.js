// The operations view: to come.
import { h } from "./dom.js";
import { nothing } from "./states.js";

export function mount(root, { strings }) {
  root.append(h("h1", {}, strings.views.operations), nothing(strings.states.loading));
  return () => {};
}
