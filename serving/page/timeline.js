// Which version served when, and why that changed: a mark for every move, so that v1 -> v2 -> v1 is three.
import { h } from "./dom.js";
import { ago, dateTime, number, percent } from "./format.js";
import { pathTo } from "./router.js";
import { nothing } from "./states.js";
import { strings } from "./strings.js";

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
    known.challenger && canary(known),
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

// The challenger beside the champion, while one is tried.
function canary({ challenger, canary: trial }) {
  const share = trial?.share ?? trial?.traffic;
  return h("p", { class: "now" }, h("span", { class: "tag warn" }, words.canary), " ", link(challenger), " ",
    share === undefined ? words.tried : words.triedOn(percent(share)),
    trial?.says && ` ${trial.says}`);
}
