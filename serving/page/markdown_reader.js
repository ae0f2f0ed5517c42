// Reads markdown into tokens: CommonMark's blocks and spans with GitHub's tables, strike-through, task lists and bare
// links, as models and people write them. The `raw` of all blocks together is the source, so that a text can grow.
// Left out: link reference definitions, and HTML, which stays text.

const LABEL = 1000; // characters of a link's text or address at most
const DEEPEST = 20; // blocks or spans within one another; what lies deeper is text
const FENCE = /^( {0,3})(\x60{3,}|~{3,})([^\x60]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?=[ \t]|$)([ \t]*)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

// Blocks: {type, raw} and, by type, `tokens` (spans or blocks), `text`, `depth`, `items`, `header` and `rows`.
export function lexer(source, depth = 0) {
  const raws = source.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const lines = raws.map((raw) => raw.replace(/\n$/, "").replace(/^\t+/, (tabs) => "    ".repeat(tabs.length)));
  const tokens = [];
  for (let at = 0; at < lines.length;) {
    const [token, used] = depth > DEEPEST ? paragraph(lines, at, DEEPEST) : block(lines, at, depth);
    token.raw = raws.slice(at, at + used).join("");
    for (const item of token.items ?? []) item.raw = raws.slice(at + item.from, at + item.to).join("");
    tokens.push(token);
    at += used;
  }
  return tokens;
}

const blank = (line) => line === undefined || !line.trim();

function block(lines, at, depth) {
  const line = lines[at];
  let found;
  if (blank(line)) {
    let end = at;
    while (end < lines.length && blank(lines[end])) end += 1;
    return [{ type: "space" }, end - at];
  }
  if ((found = FENCE.exec(line))) return fence(lines, at, found);
  if ((found = HEADING.exec(line))) {
    const text = line.slice(found[0].length).trim().replace(/(^|\s)#+$/, "").trim();
    return [{ type: "heading", depth: found[1].length, text, tokens: spans(text, depth) }, 1];
  }
  if (RULE.test(line)) return [{ type: "hr" }, 1];
  if (QUOTE.test(line)) return quote(lines, at, depth);
  if (ITEM.test(line)) return list(lines, at, depth);
  if (line.startsWith("    ")) return indented(lines, at);
  if (isTable(lines, at)) return table(lines, at, depth);
  return paragraph(lines, at, depth);
}

// Whether a line ends the paragraph before it.
function interrupts(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || isTable(lines, at) ||
    Boolean(item && line.slice(item[0].length) && !/^[02-9]|^1\d/.test(item[2]));
}

function fence(lines, at, [, indent, marker]) {
  const close = new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) end += 1;
  const inner = lines.slice(at + 1, end).map((line) => line.replace(new RegExp(`^ {0,${indent.length}}`), ""));
  return [{ type: "code", text: inner.join("\n") }, Math.min(end + 1, lines.length) - at];
}

function indented(lines, at) {
  let end = at;
  while (end < lines.length && (lines[end].startsWith("    ") || blank(lines[end]))) end += 1;
  while (blank(lines[end - 1])) end -= 1;
  return [{ type: "code", text: lines.slice(at, end).map((line) => line.slice(4)).join("\n") }, end - at];
}

function quote(lines, at, depth) {
  let end = at;
  // A line without its mark goes on with a paragraph.
  while (end < lines.length && !blank(lines[end]) && (QUOTE.test(lines[end]) || !interrupts(lines, end))) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, "")).join("\n");
  return [{ type: "blockquote", tokens: lexer(inner, depth + 1) }, end - at];
}

function list(lines, at, depth) {
  const kind = (line) => (RULE.test(line) ? null : ITEM.exec(line)?.[2].at(-1));
  const first = ITEM.exec(lines[at])[2];
  const items = [];
  let [end, loose] = [at, false];
  while (end < lines.length && kind(lines[end]) === first.at(-1)) {
    const [item, used] = itemOf(lines, end, depth);
    items.push({ ...item, from: end - at, to: end - at + used });
    end += used;
    let next = end;
    while (next < lines.length && blank(lines[next])) next += 1;
    if (next === end) continue;
    if (kind(lines[next] ?? "") !== first.at(-1)) break;
    [items.at(-1).to, end, loose] = [next - at, next, true];
  }
  loose ||= items.some((item) => item.tokens.some((token, index) => token.type === "space" && index < item.tokens.length - 1));
  for (const item of items) {
    const [start] = item.tokens;
    if (item.task !== undefined && start?.tokens) start.tokens.unshift({ type: "checkbox", checked: item.task });
    if (!loose) for (const token of item.tokens) if (token.type === "paragraph") token.type = "text";
  }
  const ordered = /\d/.test(first);
  return [{ type: "list", ordered, start: ordered ? Number.parseInt(first, 10) : "", loose, items }, end - at];
}

// An item: its line, what is indented as far as its text, and lines that go on with its paragraph.
function itemOf(lines, at, depth) {
  const [whole, indent, marker, gap] = ITEM.exec(lines[at]);
  const wide = gap.length > 4 || blank(lines[at].slice(whole.length));
  const offset = indent.length + marker.length + (wide ? 1 : gap.length);
  const inner = [lines[at].slice(offset)];
  let end = at + 1;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    if (blank(line)) {
      let next = end;
      while (next < lines.length && blank(lines[next])) next += 1;
      if (next === lines.length || lines[next].search(/\S/) < offset) break;
      inner.push("");
    } else if (line.search(/\S/) >= offset) {
      inner.push(line.slice(offset));
    } else {
      if (ITEM.test(line) || blank(inner.at(-1)) || interrupts(lines, end)) break;
      inner.push(line.trimStart());
    }
  }
  const task = /^\[([ xX])\][ \t]+/.exec(inner[0]);
  if (task) inner[0] = inner[0].slice(task[0].length);
  return [{ task: task ? task[1] !== " " : undefined, tokens: lexer(inner.join("\n"), depth + 1) }, end - at];
}

const cellsOf = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function isTable(lines, at) {
  return lines[at].includes("|") && DELIMITERS.test(lines[at + 1] ?? "") &&
    cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;
}

function table(lines, at, depth) {
  const aligns = cellsOf(lines[at + 1]).map((cell) =>
    (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : cell.startsWith(":") ? "left" : null));
  const row = (line) => {
    const cells = cellsOf(line);
    return aligns.map((align, index) => ({ align, tokens: spans(cells[index] ?? "", depth) }));
  };
  let end = at + 2;
  while (end < lines.length && !blank(lines[end]) && !interrupts(lines, end)) end += 1;
  return [{ type: "table", header: row(lines[at]), rows: lines.slice(at + 2, end).map(row) }, end - at];
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  const text = () => lines.slice(at, end).map((line) => line.trimStart()).join("\n").trimEnd();
  for (; end < lines.length && !blank(lines[end]); end += 1) {
    const under = UNDERLINE.exec(lines[end]);
    if (under) {
      const heading = text();
      return [{ type: "heading", depth: under[1][0] === "=" ? 1 : 2, text: heading, tokens: spans(heading, depth) }, end + 1 - at];
    }
    if (interrupts(lines, end)) break;
  }
  return [{ type: "paragraph", tokens: spans(text(), depth) }, end - at];
}

// -- spans ------------------------------------------------------------------------------------------------

const SPAN = new RegExp([
  "\\\\([!-/:-@[-\x60{-~])", // an escape
  "(\x60+)",
  "<((?:https?://|mailto:)[^\\s<>]*|[\\w.+-]+@[\\w-]+(?:\\.[\\w-]+)+)>",
  "(!?\\[)",
  "(\\*{1,3}|_{1,3}|~~)",
  "(https?://[^\\s<]{1,2000})",
  "( {2,}\\n|\\\\\\n)",
].join("|"), "g");

export function spans(source, depth = 0) {
  if (depth > DEEPEST) return [{ type: "text", text: source, raw: source }];
  const tokens = [];
  const unclosed = new Set();
  const add = (text) => {
    if (!text) return;
    if (tokens.at(-1)?.type === "text") tokens.at(-1).text += text;
    else tokens.push({ type: "text", text });
  };
  let at = 0;
  while (at < source.length) {
    SPAN.lastIndex = at;
    const found = SPAN.exec(source);
    if (!found) break;
    add(source.slice(at, found.index));
    const [token, end] = span(source, found, depth, unclosed);
    if (token) tokens.push({ ...token, raw: source.slice(found.index, end) });
    else add(source.slice(found.index, end));
    at = end;
  }
  add(source.slice(at));
  return tokens;
}

// The span that begins at a match and where it ends; without one the match is text.
function span(source, found, depth, unclosed) {
  const [whole, escaped, ticks, address, bracket, mark, url] = found;
  const from = found.index + whole.length;
  if (escaped) return [{ type: "escape", text: escaped }, from];
  if (ticks) {
    const end = closingTicks(source, from, ticks.length);
    if (end < 0) return [null, from];
    const text = source.slice(from, end).replaceAll("\n", " ");
    return [{ type: "codespan", text: /^ .*[^ ].* $/.test(text) ? text.slice(1, -1) : text }, end + ticks.length];
  }
  if (address) return [link(/^(https?|mailto):/.test(address) ? address : `mailto:${address}`, address), from];
  if (bracket) return bracketed(source, found.index, from, bracket.length > 1, depth);
  if (mark) return emphasis(source, found.index, mark, depth, unclosed);
  if (url) {
    let clean = url.replace(/[.,;:!?'"*_~]+$/, "");
    while (clean.endsWith(")") && clean.split(")").length > clean.split("(").length) clean = clean.slice(0, -1);
    return [link(clean, clean), found.index + clean.length];
  }
  return [{ type: "br" }, from];
}

const link = (href, text) => ({ type: "link", href, text, tokens: [{ type: "text", text }] });

function closingTicks(source, from, length) {
  for (const run of source.slice(from).matchAll(/\x60+/g)) if (run[0].length === length) return from + run.index;
  return -1;
}

// [label](address "title"), or an image of it.
function bracketed(source, begin, from, image, depth) {
  let [end, open] = [from, 1];
  for (; end < Math.min(source.length, from + LABEL); end += 1) {
    if (source[end] === "\\") end += 1;
    else if (source[end] === "[") open += 1;
    else if (source[end] === "]" && (open -= 1) === 0) break;
  }
  const rest = /^\]\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*\)/
    .exec(source.slice(end, end + LABEL));
  if (open || !rest) return [null, from];
  const label = source.slice(from, end);
  const href = (rest[1] ?? rest[2]).replace(/\\([!-/:-@[-\x60{-~])/g, "$1");
  return [{ type: image ? "image" : "link", href, text: label, tokens: spans(label, depth + 1) }, end + rest[0].length];
}

const TYPES = { 1: "em", 2: "strong" };

function emphasis(source, begin, mark, depth, unclosed) {
  const from = begin + mark.length;
  const under = mark[0] === "_";
  const opens = from < source.length && !/\s/.test(source[from]) && !(under && /[\p{L}\p{N}]/u.test(source[begin - 1] ?? ""));
  const end = opens && !unclosed.has(mark) ? closingMark(source, from, mark, under) : -1;
  if (end < 0) {
    if (opens) unclosed.add(mark); // there is none from here on, so none later
    return [null, from];
  }
  const tokens = spans(source.slice(from, end), depth + 1);
  if (mark === "~~") return [{ type: "del", tokens }, end + 2];
  if (mark.length < 3) return [{ type: TYPES[mark.length], tokens }, end + mark.length];
  return [{ type: "em", tokens: [{ type: "strong", tokens }] }, end + 3];
}

// Where a mark closes what begins at `from`: after a word, in a run of its own or at the end of a longer one.
function closingMark(source, from, mark, under) {
  for (let at = from; at < source.length; at += 1) {
    const char = source[at];
    if (char === "\\") at += 1;
    else if (char === "\x60") {
      const run = /^\x60+/.exec(source.slice(at, at + 50))[0].length;
      const end = closingTicks(source, at + run, run);
      at = (end < 0 ? at : end) + run - 1;
    } else if (char === mark[0]) {
      let run = 1;
      while (source[at + run] === char) run += 1;
      const after = source[at + run] ?? "";
      const fits = mark.length === 1 ? run !== 2 : run >= mark.length;
      if (at > from && fits && !/\s/.test(source[at - 1]) && !(under && /[\p{L}\p{N}]/u.test(after))) return at + run - mark.length;
      at += run - 1;
    }
  }
  return -1;
}
