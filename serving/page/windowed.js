// A list of any length of which only what is seen is built: rows of one height, fetched a page at a time.
import { h } from "./dom.js";

const PAGE = 100;
const SPARE = 4; // rows above and below what is seen

// Rows 1 to `count`, each `height` px. `fetchPage(first, size)` brings a Map of number to item; `row(number, item)` makes
// the content: `item` is undefined while it is not there yet, null where there is none.
export function windowed({ label, count, height, fetchPage, row, failed }) {
  const list = h("ol", { class: "rows" });
  const root = h("div", { class: "window", tabindex: "0", role: "group", "aria-label": label }, list);
  list.style.height = `${count * height}px`;
  const rows = new Map();
  let pages = new Map();
  let due = 0;

  function itemsAround(number) {
    const first = Math.floor((number - 1) / PAGE) * PAGE + 1;
    if (pages.has(first)) return pages.get(first);
    const held = pages;
    held.set(first, null);
    fetchPage(first, PAGE).then((items) => {
      if (held !== pages) return; // reloaded meanwhile
      held.set(first, items);
      for (const [at, node] of rows) if (at >= first && at < first + PAGE) fill(node, at);
    }, (error) => {
      held.delete(first);
      failed(error);
    });
    return null;
  }

  function fill(node, number) {
    const items = itemsAround(number);
    const focused = node.contains(document.activeElement);
    node.replaceChildren(row(number, items ? items.get(number) ?? null : undefined));
    if (focused) node.querySelector("button")?.focus({ preventScroll: true });
  }

  const redraw = () => rows.forEach((node, number) => fill(node, number));

  function draw() {
    due = 0;
    const first = Math.max(1, Math.floor(root.scrollTop / height) + 1 - SPARE);
    const last = Math.min(count, Math.ceil((root.scrollTop + root.clientHeight) / height) + SPARE);
    for (const [number, node] of rows) {
      if (number >= first && number <= last) continue;
      node.remove();
      rows.delete(number);
    }
    for (let number = last; number >= first; number -= 1) {
      if (rows.has(number)) continue;
      const node = h("li", { "aria-posinset": String(number), "aria-setsize": String(count) });
      node.style.top = `${(number - 1) * height}px`;
      rows.set(number, node);
      fill(node, number);
      list.insertBefore(node, rows.get(number + 1) ?? null);
    }
  }

  // Arrow keys go from row to row.
  function step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = by && [...rows].find(([, node]) => node.contains(document.activeElement))?.[0] + by;
    if (!at || at > count) return;
    event.preventDefault();
    const top = (at - 1) * height;
    root.scrollTop = Math.min(top, Math.max(root.scrollTop, top + height - root.clientHeight));
    draw();
    rows.get(at).querySelector("button")?.focus({ preventScroll: true });
  }

  root.addEventListener("scroll", () => { due ||= requestAnimationFrame(draw); }, { passive: true });
  root.addEventListener("keydown", step);
  requestAnimationFrame(draw); // once it has a height
  return {
    root,
    redraw,
    reload() {
      pages = new Map();
      redraw();
    },
  };
}
