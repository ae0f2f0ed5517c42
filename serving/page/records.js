// Records of memory: facts with provenance and the time in which they hold, on a time line and in a table.
import { toast } from "./dialog.js";
import { h, svg } from "./dom.js";
import { dateTime, number } from "./format.js";
import { pathTo } from "./router.js";
import { nothing } from "./states.js";
import { table } from "./table.js";
import { tried } from "./tried.js";

const DRAWN = 40; // rows of the time line
const ROW = 22;
const LEFT = 220; // of the bars, beside their labels
const WIDTH = 760;
const KEPT = ["id", "text", "user", "subject", "predicate", "value", "session_id", "cursors", "valid_from", "expires_at", "pinned"];

export function records(found, { api, strings, again }) {
  const words = strings.memory;
  if (!found.length) return nothing(words.noRecords, words.noRecordsText);
  const path = (one) => `/v1/memory/records/${encodeURIComponent(one.id)}`;
  const until = (one) => (one.valid_until === null ? words.now : dateTime(one.valid_until));
  const button = (label, one, onclick) =>
    h("button", { type: "button", class: "link", "aria-label": `${label}: ${one.text.slice(0, 80)}`, onclick }, label);

  async function change(work, said, undo) {
    const done = await tried(async () => { await work(); return true; });
    if (!done) return;
    again();
    toast(said, undo && { label: strings.undo, run: undo });
  }

  const pin = (one) =>
    change(() => api.patch(path(one), { pinned: !one.pinned, if_version: one.version }), one.pinned ? words.recordUnpinned : words.recordPinned);

  // Deleting is as if it had never been written; written again as it was, it is back.
  function remove(one) {
    const kept = Object.fromEntries(KEPT.filter((field) => one[field] !== null).map((field) => [field, one[field]]));
    if (one.valid_until !== null && !one.superseded_by) kept.valid_until = one.valid_until;
    const back = () => change(() => api.post("/v1/memory/records", kept), words.undone);
    return change(() => api.remove(path(one)), words.recordRemoved, back);
  }

  return [timeline(found, words, until), table({
    caption: words.recordsText,
    rows: found,
    columns: [
      { label: words.fact, head: true, cell: (one) => [`${one.text} `, one.pinned && h("span", { class: "tag" }, words.isPinned), one.superseded_by && h("span", { class: "tag" }, words.superseded)] },
      { label: words.from, cell: (one) => dateTime(one.valid_from) },
      { label: words.until, cell: until },
      { label: words.source, cell: (one) => (one.session_id
        ? h("a", { href: pathTo("memory", "session", one.session_id) }, words.sourceOf(one.session_id, one.cursors)) : words.written) },
      { label: words.recalls, right: true, cell: (one) => number(one.recalls) },
      { label: words.actions, cell: (one) => [button(one.pinned ? words.unpin : words.pin, one, () => pin(one)), button(words.remove, one, () => remove(one))] },
    ],
  })];
}

// A bar for each record from when it held until when; records about the same thing stand on one line.
function timeline(found, words, until) {
  const now = Date.now() / 1000;
  const slots = new Map();
  for (const one of found) {
    const about = one.predicate ? `${one.subject ?? ""} ${one.predicate}`.trim() : one.text;
    slots.set(about, [...(slots.get(about) ?? []), one]);
  }
  const lines = [...slots].slice(0, DRAWN);
  const shown = lines.flatMap(([, ones]) => ones);
  const start = Math.min(...shown.map((one) => one.valid_from));
  const end = Math.max(now, ...shown.map((one) => one.valid_until ?? now));
  const x = (at) => LEFT + (WIDTH - LEFT - 10) * ((at - start) / (end - start || 1));
  const foot = lines.length * ROW + 22;
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": words.timeline }, svg("svg", {
    viewBox: `0 0 ${WIDTH} ${foot + 6}`, role: "img", "aria-label": words.timelineText(lines.length), class: "chart held-spans",
  },
    lines.map(([about, ones], index) => [
      svg("text", { x: 0, y: index * ROW + 15 }, about.slice(0, 34)),
      ones.map((one) => svg("rect", {
        x: x(one.valid_from), y: index * ROW + 4, rx: 3, height: ROW - 8, class: one.superseded_by ? "was" : "holds",
        width: Math.max(3, x(one.valid_until ?? now) - x(one.valid_from)),
      }, svg("title", {}, `${one.text}: ${dateTime(one.valid_from)} – ${until(one)}`))),
    ]),
    svg("text", { x: LEFT, y: foot }, dateTime(start)), svg("text", { x: WIDTH - 10, y: foot, class: "right" }, dateTime(end))));
}
