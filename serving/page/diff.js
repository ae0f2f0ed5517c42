// Two texts word by word: what both have, what only the first (del) and only the second (ins). By the longest common
// subsequence of words (Hunt & Szymanski's problem, solved by the plain table, which texts of answers' length allow).
import { h } from "./dom.js";
import { strings } from "./strings.js";

const MOST = 1500; // words of each that are compared

// [{kind: "same" | "del" | "ins", text}]; a word has the blanks behind it, so that words that changed in a row are one.
export function compareWords(before, after) {
  const [a, b] = [before, after].map((text) => (text.match(/^\s+|\S+\s*/g) ?? []).slice(0, MOST));
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width); // of the rest of a and b from i and j on
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[i] === b[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const parts = [];
  const add = (kind, text) => {
    if (parts.at(-1)?.kind === kind) parts.at(-1).text += text;
    else parts.push({ kind, text });
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", a[i]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      add("del", a[i]);
      i += 1;
    } else {
      add("ins", b[j]);
      j += 1;
    }
  }
  return parts;
}

// The second text with what it has anew, the first with what it has lost; both say so to screen readers.
export function marked(before, after) {
  const parts = compareWords(before, after);
  const side = (kind) => parts.filter((part) => part.kind === "same" || part.kind === kind).map((part) =>
    (part.kind === "same" ? part.text : h(kind, {}, h("span", { class: "sr" }, strings.diff[kind]), part.text)));
  return { before: side("del"), after: side("ins"), same: parts.every((part) => part.kind === "same") };
}
