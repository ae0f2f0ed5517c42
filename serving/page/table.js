// A table of data: a caption, columns with a header each, rows; scrolls sideways on small screens.
import { h } from "./dom.js";

// `columns`: [{label, cell: (row) => node or text, right?: true, head?: true}]; `head` makes its cells row headers.
export function table({ caption, columns, rows, hidden = false, label = caption }) {
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.right && "right" }, column.label)));
  const body = rows.map((row) => h("tr", {}, columns.map((column) => cellOf(column, row))));
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": label },
    h("table", {}, h("caption", { class: hidden && "sr" }, caption), h("thead", {}, head), h("tbody", {}, body)));
}

function cellOf(column, row) {
  const attributes = { class: column.right && "right" };
  if (column.head) attributes.scope = "row";
  return h(column.head ? "th" : "td", attributes, column.cell(row) ?? "");
}
