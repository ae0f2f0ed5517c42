// Elements from plain calls: h("p", {class: "note"}, "text", child). Nothing here parses HTML:
// children are nodes or text, so what people and models write stays text.

const LINKS = new Set(["http:", "https:", "mailto:"]);
const SVG = "http://www.w3.org/2000/svg";

// Attributes: a function is a listener (onclick), true a bare attribute, null or false none, and `value` a property.
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (key === "value") node.value = value;
    else if (key === "href") linkTo(node, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A place on this page, or another host's by a scheme that cannot run anything; else no link at all.
function linkTo(node, target) {
  if (target.startsWith("#") || target.startsWith("/")) return node.setAttribute("href", target);
  if (!URL.canParse(target) || !LINKS.has(new URL(target).protocol)) return;
  node.setAttribute("href", target);
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
}

// Outline icons on a grid of 24, drawn by one path each.
const ICONS = {
  add: "M12 5v14M5 12h14",
  back: "M4 10h10a5 5 0 0 1 0 10h-3M4 10l5-5M4 10l5 5",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  down: "M17 3v10m0-10h3v10h-3m0-10H7.4a2 2 0 0 0-2 1.6l-1.3 6A2 2 0 0 0 6 13h4l-.8 4.6a2 2 0 0 0 1.9 2.4L17 13",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  menu: "M4 7h16M4 12h16M4 17h16",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  pair: "M4 5h7v14H4zM13 5h7v14h-7z",
  redo: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
  send: "M12 19V5m0 0-6 6m6-6 6 6",
  stop: "M8 8h8v8H8z",
  tune: "M4 7h9m4 0h3M4 17h3m4 0h9M15 4v6M9 14v6",
  up: "M7 21V11m0 10H4V11h3m0 10h9.6a2 2 0 0 0 2-1.6l1.3-6A2 2 0 0 0 18 11h-4l.8-4.6A2 2 0 0 0 12.9 4L7 11",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }, svg("path", { d: ICONS[name] }));
}

// A button that shows an icon and is named by `label`.
export function iconButton(name, label, onclick, more = {}) {
  return h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

// After the next frame, or soon where none comes, as in a hidden tab.
export function rested() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, 50);
  });
}
