// Markdown to DOM nodes: tokens (markdown_reader.js) become elements made here, one by one, so that nothing a model
// writes is ever parsed as HTML. Raw HTML is shown as text, links go to http, https and mailto only, and images
// become links (loading one would leak data).
import { toast } from "./dialog.js";
import { iconButton } from "./dom.js";
import { strings } from "./strings.js";
import { lexer } from "./markdown_reader.js";

const DEEPEST = 20;
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—",
  ndash: "–", times: "×", deg: "°", copy: "©", euro: "€", larr: "←", rarr: "→",
};

// Beyond these lengths an unfinished block is settled in part, so that each piece of text costs as much as the last.
const LONG = 3000; // characters of code or of a list
const WALL = 6000; // of a paragraph
const CHUNK = 100; // lines of code that are laid out together

// A text that grows. Finished blocks are made once; only the last one is made anew, so that the work per token does
// not grow with the answer. `lexed` counts the characters that were read for it.
export class GrowingMarkdown {
  constructor(root) {
    this.root = root;
    this.open = "";
    this.last = [];
    this.fence = null;
    this.lexed = 0;
  }

  write(text) {
    // Carriage returns are no part of a line.
    const added = text.replaceAll("\r", "");
    this.open += added;
    if (this.fence && !this.closes(added)) return this.fence.grow(added);
    this.fence = null;
    this.lexed += this.open.length;
    const tokens = read(this.open);
    let end = tokens.length - 1;
    while (end > 0 && tokens[end].type === "space") end -= 1;
    const settled = tokens.slice(0, Math.max(end, 0));
    const open = tokens.slice(settled.length);
    for (const node of this.last) node.remove();
    for (const token of settled) this.settle(token);
    if (open.length === 1) this.settlePart(open[0]);
    this.last = blocks(open, 0);
    if (this.continues) this.last[0]?.classList?.add("more");
    this.root.append(...this.last);
    if (open.length === 1 && open[0].type === "code" && this.open.length > LONG) this.fence = this.openFence();
  }

  settle(token, length = token.raw.length) {
    const nodes = blocks([token], 0);
    if (this.continues) nodes[0]?.classList?.add("more");
    this.continues = false;
    this.root.append(...nodes);
    this.open = this.open.slice(length);
  }

  // Of a long list all items but the last, of a long paragraph all but its end; `token` becomes the rest.
  settlePart(token) {
    if (token.type === "list" && token.items.length > 1 && token.raw.length > LONG) {
      const [last] = token.items.splice(-1);
      this.settle(token, this.open.lastIndexOf(last.raw));
      if (token.ordered) token.start = Number.parseInt(last.raw, 10);
      token.items = [last];
    } else if (token.type === "paragraph" && token.raw.length > WALL) {
      const cut = token.raw.lastIndexOf(" ", token.raw.length - LONG);
      if (cut <= 0) return;
      const [whole] = read(token.raw.slice(0, cut));
      this.settle(whole, cut + 1);
      Object.assign(token, read(this.open)[0]);
    } else {
      return;
    }
    this.continues = true;
  }

  // The marker of the code block that is open, and where its text goes; null where that is not plain.
  openFence() {
    const marker = /^(\x60{3,}|~{3,})/.exec(this.open)?.[1];
    const code = this.last[0]?.querySelector?.("code");
    if (!marker || !code) return null;
    let lines = 0;
    return {
      marker,
      grow(text) {
        lines += text.split("\n").length - 1;
        if (lines > CHUNK || !code.lastChild) {
          lines = 0;
          code.append(element("span"));
        }
        code.lastChild.append(text);
      },
    };
  }

  // Whether the fence is closed by what was added (or by the line that it ends).
  closes(added) {
    const from = this.open.lastIndexOf("\n", this.open.length - added.length - 1);
    return this.open.slice(from).includes(`\n${this.fence.marker}`) || /\n {1,3}[\x60~]{3}/.test(this.open.slice(from));
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
      return [code(token.text)];
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
    default:
      return [token.raw];
  }
}

// With a button that copies it. Long code is laid out in pieces.
function code(text) {
  const lines = text.split("\n");
  const parts = [];
  for (let at = 0; at < lines.length; at += CHUNK) {
    const part = lines.slice(at, at + CHUNK).join("\n");
    parts.push(at + CHUNK < lines.length ? `${part}\n` : part);
  }
  const inner = parts.length > 1 ? parts.map((part) => element("span", [part])) : parts;
  const box = element("pre", [element("code", inner)], { tabIndex: 0 });
  const copy = iconButton("copy", strings.chat.copyCode, () => {
    navigator.clipboard.writeText(text).then(() => toast(strings.copied), () => toast(strings.copyRefused));
  });
  return element("div", [box, copy], { className: "code" });
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
