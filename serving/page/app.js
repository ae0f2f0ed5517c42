// The shell around the views: header, navigation, colours, the key, and the one line that speaks to screen readers.
import * as api from "./api.js";
import { h, iconButton } from "./dom.js";
import { NAMES, pathTo, startRouter } from "./router.js";
import { strings } from "./strings.js";

const THEMES = ["auto", "light", "dark"];
const at = (id) => document.getElementById(id);
const main = at("view");
const links = new Map(NAMES.map((name) => [name, h("a", { href: pathTo(name) }, strings.views[name])]));

export function say(text) {
  at("status").textContent = text;
}

function header() {
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  return [
    h("a", { class: "brand", href: "#/chat", "aria-label": strings.product }, mark, h("span", {}, strings.product)),
    h("nav", { "aria-label": strings.viewsLabel }, ...links.values()),
    themeButton(),
  ];
}

function shown(name, first) {
  for (const [other, link] of links) {
    if (other === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${strings.views[name]} · ${strings.product}`;
  if (first) return void main.querySelector("[autofocus]")?.focus();
  const title = main.querySelector("h1");
  if (!title) return;
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
}

// -- colours --------------------------------------------------------------------------------------

function themeButton() {
  let theme = remembered("burnish.theme") ?? "auto";
  const button = iconButton("moon", "", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember("burnish.theme", theme);
    wear();
    say(strings.theme[theme]);
  });
  function wear() {
    document.documentElement.dataset.theme = theme;
    button.title = strings.theme[theme];
    button.setAttribute("aria-label", strings.theme[theme]);
  }
  wear();
  return button;
}

function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Without storage the choice lives as long as the page.
  }
}

// -- the key, where the server wants one ------------------------------------------------------------

api.onKeyNeeded(() => {
  if (at("key")) return;
  const field = h("input", { id: "key-value", type: "password", autocomplete: "off", required: true });
  const used = () => {
    api.useKey(field.value.trim());
    dispatchEvent(new Event("burnish-key")); // views ask again with it
  };
  const dialog = h("dialog", { id: "key", "aria-labelledby": "key-title", onclose: () => dialog.remove() },
    h("form", { method: "dialog", onsubmit: used },
      h("h2", { id: "key-title" }, strings.key.title), h("p", {}, strings.key.text),
      h("label", { for: "key-value" }, strings.key.label), field,
      h("div", { class: "row" },
        h("button", { type: "submit", class: "primary" }, strings.key.use),
        h("button", { type: "button", class: "secondary", onclick: () => dialog.close() }, strings.cancel))));
  document.body.append(dialog);
  dialog.showModal();
});

// -- whether the server is there --------------------------------------------------------------------

const LOOK_MS = 2000;
let away = 0;
api.onReach((there) => {
  if (there) {
    clearInterval(away);
    if (!away) return;
    away = 0;
    at("offline").hidden = true;
    say(strings.backOnline);
    dispatchEvent(new Event("burnish-back"));
  } else if (!away) {
    away = setInterval(() => api.get("/healthz").catch(() => {}), LOOK_MS);
    at("offline").textContent = strings.offline;
    at("offline").hidden = false;
    say(strings.offline);
  }
});

at("top").append(...header());
at("skip").textContent = strings.skip;
at("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the router's
  main.focus();
});
startRouter(main, { api, strings, say }, shown);
