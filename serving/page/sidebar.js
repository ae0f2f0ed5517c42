// The list of conversations: begin, open, rename, delete with undo. On small screens it opens over the chat.
import { ask, toast } from "./dialog.js";
import { h, icon, iconButton } from "./dom.js";
import { ago } from "./format.js";
import { pathTo } from "./router.js";
import { strings } from "./strings.js";

const words = strings.chat;

export class Sidebar {
  // `begin` starts a conversation, `removed` hears of one that is gone.
  constructor(store, { begin, removed }) {
    Object.assign(this, { store, removed, current: null });
    this.list = h("ul", { class: "talks" });
    this.fresh = h("button", { type: "button", class: "secondary", onclick: () => { this.fold(true); begin(); } },
      icon("add"), words.newChat);
    this.node = h("section", { class: "sidebar", "aria-label": words.conversations }, this.fresh, this.list);
    this.opener = iconButton("menu", words.conversations, () => this.fold(), { "aria-expanded": "false", class: "quiet narrow" });
  }

  fold(shut = this.node.classList.contains("open")) {
    this.node.classList.toggle("open", !shut);
    this.opener.setAttribute("aria-expanded", String(!shut));
  }

  busy(on) {
    this.fresh.disabled = on;
  }

  show(current = this.current) {
    this.current = current;
    this.list.replaceChildren(...this.store.listed.map((one) => this.entry(one)));
    this.list.hidden = !this.store.listed.length;
  }

  entry(one) {
    const title = one.title || words.untitled;
    return h("li", {},
      h("a", {
        href: pathTo("chat", one.id), title: ago(one.at), "aria-current": one.id === this.current && "true",
        onclick: () => this.fold(true),
      }, title),
      iconButton("edit", words.rename(title), () => this.rename(one)),
      iconButton("close", words.remove(title), () => this.remove(one)));
  }

  async rename(one) {
    const field = { label: words.titleLabel, value: one.title, required: true };
    const title = await ask({ title: words.renaming, text: [], action: words.renameAction, field });
    if (!title) return;
    this.store.rename(one.id, title);
    this.show();
  }

  remove(one) {
    const undo = this.store.remove(one.id);
    const { current } = this;
    this.removed(one.id);
    this.show();
    this.fresh.focus();
    toast(words.removed(one.title || words.untitled), {
      label: strings.undo,
      run: () => {
        undo();
        this.show();
        if (current === one.id) location.hash = pathTo("chat", one.id);
      },
    });
  }
}
