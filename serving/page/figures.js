// The learning view's charts, each beside the table of what it draws.
import { lineChart } from "./chart.js";
import { h } from "./dom.js";
import { number, percent, points } from "./format.js";
import { pathTo } from "./router.js";
import { nothing } from "./states.js";
import { strings } from "./strings.js";
import { table } from "./table.js";

const words = strings.learning;
const DRAWN = 40; // of the latest versions

const linked = (version) => h("a", { href: pathTo("learning", "version", String(version)) }, `@${version}`);
const legend = (...names) => h("ul", { class: "legend" }, names.map((name, index) => h("li", { class: `s${index}` }, name)));

// How people like each version: Wilson's interval where there are votes enough, and what was foreseen.
export function likedCard({ report }) {
  const versions = (report?.versions ?? []).slice(-DRAWN);
  if (!versions.some((version) => version.liked)) {
    return [h("h2", {}, words.liked), nothing(words.noVotes, words.noVotesText)];
  }
  const at = new Map(versions.map((version, index) => [version.version, index]));
  const enough = versions.filter((version) => version.enough);
  const observed = enough.map(({ version, liked }) => ({
    x: at.get(version), y: liked.share, low: liked.low, high: liked.high,
    title: words.likedOf(version, percent(liked.share), number(liked.count)),
  }));
  const foreseen = versions.filter((version) => version.foreseen).map(({ version, foreseen: told }) => ({
    x: at.get(version), y: told.foreseen, title: words.foreseenOf(version, percent(told.foreseen)),
  }));
  const label = words.likedChart(enough.length, report.comparison && words.points(report.comparison));
  return [
    h("h2", {}, words.liked),
    h("p", { class: "soft small" }, words.likedText),
    enough.length > 0 && legend(words.observed, ...(foreseen.length ? [words.foreseen] : [])),
    enough.length > 0 && lineChart({
      label, series: [{ name: words.observed, points: observed }, { name: words.foreseen, points: foreseen, dashed: true }],
      ticks: versions.map((version) => `@${version.version}`), range: [0, 1], format: (value) => percent(value),
    }),
    likedTable(versions.toReversed()),
  ];
}

function likedTable(rows) {
  return table({
    caption: words.likedTable, rows,
    columns: [
      { label: words.version, head: true, cell: ({ version }) => linked(version) },
      { label: words.liked, right: true, cell: ({ liked, enough }) => (enough ? percent(liked.share) : words.tooFew) },
      { label: words.interval, right: true, cell: ({ liked, enough }) => enough && words.range(percent(liked.low), percent(liked.high)) },
      { label: words.votes, right: true, cell: ({ liked }) => number(liked?.count ?? 0) },
      { label: words.foreseen, right: true, cell: ({ foreseen }) => foreseen && percent(foreseen.foreseen) },
    ],
  });
}

// Skill at the gate and distance from the base, of the latest versions that an update made.
export function skillCard({ known }) {
  const versions = known.versions.filter(({ metrics }) => metrics.gate_skill !== undefined).slice(-DRAWN);
  if (!versions.length) return [];
  const ticks = versions.map(({ version }) => `@${version}`);
  const drawn = (name) => versions.map(({ metrics }, x) => ({ x, y: metrics[name], title: number(metrics[name], 3) }))
    .filter(({ y }) => y !== undefined);
  const most = Math.max(...drawn("kl").map(({ y }) => y), 0.001);
  return [
    h("h2", {}, words.skill),
    h("p", { class: "soft small" }, words.skillText),
    legend(words.skillOf, words.baseSkill),
    lineChart({
      label: words.skillChart(versions.length), ticks, range: [0, 1], format: (value) => percent(value), height: 170,
      series: [{ name: words.skillOf, points: drawn("gate_skill") }, { name: words.baseSkill, points: drawn("gate_base_skill"), dashed: true }],
    }),
    drawn("kl").length > 0 && [legend(words.kl), lineChart({
      label: words.klChart(versions.length), ticks, range: [0, most], format: (value) => number(value, 3), height: 130,
      series: [{ name: words.kl, points: drawn("kl") }],
    })],
    h("details", {}, h("summary", {}, words.asTable), table({
      caption: words.skillTable, rows: versions.toReversed(),
      columns: [
        { label: words.version, head: true, cell: ({ version }) => linked(version) },
        { label: words.skillOf, right: true, cell: ({ metrics }) => percent(metrics.gate_skill, 1) },
        { label: words.gate, cell: ({ gate_passed: passed }) => words.gates[passed] ?? "" },
        { label: words.kl, right: true, cell: ({ metrics }) => metrics.kl !== undefined && number(metrics.kl, 4) },
      ],
    })),
  ].flat();
}

// What the gate found in each family of tasks, of the version that serves.
export function familiesCard(champion) {
  const families = Object.entries(champion?.gate_report?.families ?? {});
  if (!families.length) return [];
  return [h("h2", {}, words.families), h("p", { class: "soft small" }, words.familiesText(champion.ref)), familiesTable(champion.gate_report)];
}

export function familiesTable({ families, asked = {} }) {
  const bar = (share) => h("meter", { min: 0, max: 1, value: share, "aria-hidden": "true" });
  return table({
    caption: words.familiesTable,
    rows: Object.entries(families).sort(([, [a, b]], [, [c, d]]) => Math.abs(d - c) - Math.abs(b - a)),
    columns: [
      { label: words.family, head: true, cell: ([name]) => name },
      { label: words.base, right: true, cell: ([, [base]]) => percent(base) },
      { label: words.candidate, right: true, cell: ([, [, now]]) => [bar(now), " ", percent(now)] },
      { label: words.difference, right: true, cell: ([, [base, now]]) => points(now - base) },
      { label: words.asked, right: true, cell: ([name]) => asked[name] && number(asked[name]) },
    ],
  });
}
