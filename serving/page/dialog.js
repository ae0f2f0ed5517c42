// Questions that wait for an answer, and notes that pass. Focus goes back to where it was.
import { h } from "./dom.js";
import { strings } from "./strings.js";

const SHOWN_MS = 8000;

// Ask before something that cannot be overlooked. Resolves to null, or to what was typed where `field` names a
// text to give ("" if nothing was). `field.type` is an input's type; `field.required` wants something.
export function ask({ title, text, action, danger = false, field = null }) {
  const held = document.activeElement;
  return new Promise((resolve) => {
    const input = field && h("input", {
      id: "ask-field", type: field.type ?? "text", autocomplete: "off", maxlength: 500, required: field.required, value: field.value ?? "",
    });
    let said = null;
    const form = h("form", { method: "dialog", onsubmit: () => { said = input ? input.value.trim() : ""; } },
      h("h2", { id: "ask-title" }, title),
      [text].flat().map((line) => h("p", {}, line)),
      field && h("label", { for: "ask-field" }, field.label), input,
      h("div", { class: "row" },
        h("button", { type: "submit", class: danger ? "primary danger" : "primary" }, action),
        h("button", { type: "button", class: "secondary", onclick: () => dialog.close() }, strings.cancel)));
    const dialog = h("dialog", { "aria-labelledby": "ask-title" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (held?.isConnected) held.focus();
      resolve(said);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A note below, with an action (such as an undo) while it shows. The status line says it to screen readers.
export function toast(text, action = null) {
  const place = document.getElementById("toasts");
  const note = h("p", { class: "toast" }, h("span", {}, text),
    action && h("button", { type: "button", class: "link", onclick: () => { note.remove(); action.run(); } }, action.label));
  place.replaceChildren(note);
  document.getElementById("status").textContent = text;
  let timer = 0;
  const wait = () => { timer = setTimeout(() => note.remove(), SHOWN_MS); };
  // Whoever is about to press its button has all the time.
  note.addEventListener("pointerenter", () => clearTimeout(timer));
  note.addEventListener("pointerleave", wait);
  note.addEventListener("focusin", () => clearTimeout(timer));
  note.addEventListener("focusout", wait);
  wait();
  return note;
}
