// Markdown to DOM nodes. marked only reads it: its tokens become elements made here, one by
// one, so that nothing a model writes is ever parsed as HTML. Raw HTML is shown as text, links
// go to http, https and mailto only, and images become links (loading one would leak data).
import { lexer } from "./vendor/marked.esm.js";

const DEEPEST = 20;
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—",
  ndash: "–", times: "×", deg: "°", copy: "©", euro: "€", larr: "←", rarr: "→",
};

// A text that grows. Finished blocks are made once; only the last one is made anew, so that
// the work per token does not grow with the answer.
export class GrowingMarkdown {
  constructor(root) {
    this.root = root;
    this.open = "";
    this.last = [];
  }

  write(text) {
    // marked drops carriage returns before it counts; `raw` must stay true to `open`.
    this.open += text.replaceAll("\r", "");
    const tokens = read(this.open);
    let end = tokens.length - 1;
    while (end > 0 && tokens[end].type === "space") end -= 1;
    const settled = tokens.slice(0, Math.max(end, 0));
    for (const node of this.last) node.remove();
    for (const token of settled) {
      this.root.append(...blocks([token], 0));
      this.open = this.open.slice(token.raw.length);
    }
    this.last = blocks(tokens.slice(settled.length), 0);
    this.root.append(...this.last);
  }
}

function read(source) {
  try {
    return lexer(source);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // nested deeper than the stack
    return [{ type: "text", raw: source, text: source }];
  }
}

function blocks(tokens = [], depth = 0) {
  if (depth > DEEPEST) return [tokens.map((token) => token.raw).join("")];
  return tokens.flatMap((token) => block(token, depth + 1));
}

function block(token, depth) {
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      // One level for all: an answer cannot upset the page's outline.
      if (!token.text) return []; // its words are yet to come
      return [element("h3", inline(token.tokens, depth), { className: `h${token.depth}` })];
    case "paragraph":
      return [element("p", inline(token.tokens, depth))];
    case "code":
      return [element("pre", [element("code", [token.text])], { tabIndex: 0 })];
    case "blockquote":
      return [element("blockquote", blocks(token.tokens, depth))];
    case "hr":
      return [element("hr")];
    case "list":
      return [list(token, depth)];
    case "table":
      return [table(token, depth)];
    case "text":
      return token.tokens ? inline(token.tokens, depth) : [decode(token.text)];
    case "checkbox":
      return [token.checked ? "☑ " : "☐ "];
    case "html":
      return [element("p", [token.raw.trimEnd()], { className: "raw" })];
    default:
      return [token.raw];
  }
}

function list(token, depth) {
  const items = token.items.map((item) => element("li", blocks(item.tokens, depth)));
  const made = element(token.ordered ? "ol" : "ul", items);
  if (token.ordered && token.start !== 1) made.start = Number(token.start) || 1;
  return made;
}

function table(token, depth) {
  const row = (cells, name) =>
    element("tr", cells.map((cell) => {
      const made = element(name, inline(cell.tokens, depth));
      if (cell.align) made.classList.add(cell.align);
      return made;
    }));
  const head = element("thead", [row(token.header, "th")]);
  const body = element("tbody", token.rows.map((cells) => row(cells, "td")));
  const box = element("div", [element("table", [head, body])], { className: "table", tabIndex: 0 });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Table");
  return box;
}

function inline(tokens = [], depth = 0) {
  if (depth > DEEPEST) return [tokens.map((token) => token.raw).join("")];
  return tokens.flatMap((token) => span(token, depth + 1));
}

function span(token, depth) {
  switch (token.type) {
    case "text":
      return token.tokens ? inline(token.tokens, depth) : [decode(token.text)];
    case "escape":
      return [token.text];
    case "strong":
    case "em":
    case "del":
      return [element(token.type, inline(token.tokens, depth))];
    case "codespan":
      return [element("code", [token.text])];
    case "br":
      return [element("br")];
    case "checkbox":
      return [token.checked ? "☑ " : "☐ "];
    case "link":
      return [link(token.href, inline(token.tokens, depth), token.raw)];
    case "image":
      return [link(token.href, [`image: ${decode(token.text) || token.href}`], token.raw)];
    default:
      return [token.raw];
  }
}

function link(href, children, raw) {
  const target = decode(href);
  // Relative addresses would point into this service; they stay text, like unknown schemes.
  if (!URL.canParse(target) || !SCHEMES.has(new URL(target).protocol)) return raw;
  return element("a", children, { href: target, target: "_blank", rel: "noopener noreferrer" });
}

function decode(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, dec, hex, name) => {
    if (name) return ENTITIES[name] ?? whole;
    const code = dec ? Number(dec) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function element(name, children = [], properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
