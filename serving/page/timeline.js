// Which version served when, and why that changed: a mark for every move, so that v1 -> v2 -> v1 is three.
import { h } from "./dom.js";
import { ago, dateTime, number, percent } from "./format.js";
import { pathTo } from "./router.js";
import { nothing } from "./states.js";
import { strings } from "./strings.js";
import { table } from "./table.js";

const words = strings.learning;
const SHOWN = 12;

export function timelineCard({ known }) {
  const moves = known.history.map((move) => ({ at: move.at, node: moveOf(move, known) }));
  const refused = known.versions.filter((version) => version.gate_passed === false)
    .map((version) => ({ at: version.created_at, node: refusalOf(version) }));
  const marks = [...moves, ...refused].sort((a, b) => b.at - a.at);
  if (!marks.length) return [h("h2", {}, words.timeline), nothing(words.noMoves)];
  const list = (part) => h("ol", { class: "moves" }, part.map(({ node }) => node));
  return [
    h("h2", {}, words.timeline),
    list(marks.slice(0, SHOWN)),
    marks.length > SHOWN && h("details", {}, h("summary", {}, words.earlier(marks.length - SHOWN)), list(marks.slice(SHOWN, SHOWN * 8))),
  ];
}

const link = (version) => h("a", { href: pathTo("learning", "version", String(version)) }, `@${version}`);
const when = (at) => h("time", { datetime: new Date(at * 1000).toISOString(), title: dateTime(at) }, ago(at));

function moveOf(move, known) {
  const version = known.versions.find((one) => one.version === move.after);
  const serves = move === known.history.at(-1);
  return h("li", { class: `${move.what === "rollback" ? "back" : ""}${serves ? " serves" : ""}` },
    h("p", {}, h("strong", {}, words.moves[move.what] ?? move.what), " ",
      move.before ? [link(move.before), " → "] : null, link(move.after),
      serves && [" ", h("span", { class: "tag good" }, words.servesNow)]),
    h("p", { class: "soft small" }, when(move.at), " · ", words.by(move.who), move.why && ` · ${move.why}`),
    version?.metrics?.gate_skill !== undefined &&
      h("p", { class: "soft small" }, words.gatePassed(percent(version.metrics.gate_skill, 1)), gateNote(version)));
}

function gateNote({ metrics }) {
  return metrics.kl === undefined ? "" : ` · ${words.klOf(number(metrics.kl, 3))}`;
}

function refusalOf(version) {
  return h("li", { class: "refused" },
    h("p", {}, h("strong", {}, words.refusedBy), " ", link(version.version), " ", h("span", { class: "tag bad" }, words.notServed)),
    h("p", { class: "soft small" }, when(version.created_at)));
}

// The challenger beside the champion: on which share of people, and how sure it is by now. The bounds of the change
// are a confidence sequence's, which holds however often one looks.
export function canaryCard({ policy, canary }) {
  const runs = canary?.running;
  if (!runs) return [];
  const { thumbs, change, compared, of } = canary.last?.figures ?? {};
  const arm = (name) => [name, `${policy}@${name === "challenger" ? runs.version : canary.last?.champion ?? ""}`, thumbs[name]];
  return [
    h("h2", {}, words.canary, " ", h("span", { class: "tag warn" }, runs.paused_by ? words.held : percent(runs.share))),
    h("p", {}, words.triedOn(percent(runs.share)), " ", canary.says),
    thumbs && table({
      caption: words.canaryTable, rows: [arm("challenger"), arm("champion")],
      columns: [
        { label: words.version, head: true, cell: ([, ref]) => ref },
        { label: words.people, right: true, cell: ([, , { users }]) => number(users) },
        { label: words.liked, right: true, cell: ([, , { mean }]) => (mean == null ? words.tooFew : percent(mean)) },
      ],
    }),
    change?.lower != null && h("p", { class: "small soft" }, words.sequence(change.lower, change.upper)),
    of && h("p", { class: "small soft" }, words.compared(compared, of)),
  ];
}
