// One version: what its gate found, how it came about, the votes behind it; and one vote with its story.
import { FateLine, told } from "./fate.js";
import { familiesTable } from "./figures.js";
import { h } from "./dom.js";
import { dateTime, duration, number } from "./format.js";
import { pathTo } from "./router.js";
import { load, nothing } from "./states.js";
import { strings } from "./strings.js";
import { table } from "./table.js";

const words = strings.learning;
const LISTED = 50; // of the votes behind a version

const back = () => h("p", {}, h("a", { href: pathTo("learning") }, words.back));

export function versionPage(root, { api }, [version, policy = "default"], act) {
  const path = `/v1/policies/${encodeURIComponent(policy)}`;
  const body = h("div");
  root.append(back(), h("h1", {}, `${policy}@${version}`), body);
  const loading = load(body, () => api.get(`${path}/versions/${encodeURIComponent(version)}?votes=${LISTED}`), (found) => [
    h("p", { class: "lead" }, summary(found)),
    h("div", { class: "row spaced" },
      found.aliases.map((alias) => h("span", { class: "tag good" }, alias)),
      !found.aliases.includes("champion") && h("button", {
        type: "button", class: "primary",
        onclick: () => act(words.acts.promote(found.ref), `${path}/promote`, { version: found.version }),
      }, words.acts.promote(found.ref).label),
      found.mlflow && h("a", { href: found.mlflow }, words.mlflow)),
    h("div", { class: "columns" },
      h("div", { class: "column" }, gateCard(found.gate_report), figuresCard(found.metrics)),
      h("div", { class: "column" }, votesCard(found), lineageCard(found))),
  ]);
  addEventListener("burnish-acted", loading.again);
  return () => {
    removeEventListener("burnish-acted", loading.again);
    loading.stop();
  };
}

function summary({ parent, lineage, votes, created_at: made }) {
  if (!parent) return words.isBase;
  return words.made(dateTime(made), parent, votes, lineage.steps ?? 0);
}

function gateCard(report) {
  if (!report) return h("section", { class: "card" }, h("h2", {}, words.gateTitle), h("p", { class: "soft" }, words.noGate));
  return h("section", { class: "card" },
    h("h2", {}, words.gateTitle, " ", h("span", { class: report.passed ? "tag good" : "tag bad" }, words.gates[report.passed])),
    h("ul", { class: "checks" }, report.checks.map((check) => h("li", { class: check.passed ? "passed" : "failed" },
      h("span", { class: check.passed ? "tag good" : "tag bad" }, words.gates[check.passed]), " ", check.says))),
    Object.keys(report.families ?? {}).length > 0 && familiesTable(report));
}

function figuresCard(metrics) {
  const rows = Object.entries(metrics);
  if (!rows.length) return null;
  return h("section", { class: "card" }, h("details", {}, h("summary", {}, words.figures), table({
    caption: words.figures, rows, hidden: true,
    columns: [{ label: words.name, head: true, cell: ([name]) => name }, { label: words.value, right: true, cell: ([, value]) => number(value, 4) }],
  })));
}

// Ids are `tenant/id`, with `#revision` where one was revised.
function votesCard({ votes, lineage: { feedback_ids: events = [] } }) {
  return h("section", { class: "card" },
    h("h2", {}, words.votesBehind),
    votes ? h("p", { class: "soft" }, words.votesText(votes)) : nothing(words.noVotesBehind),
    h("ol", { class: "plain ids" }, events.map((event) => {
      const id = event.slice(event.indexOf("/") + 1).replace(/#\d+$/, "");
      return h("li", {}, h("a", { class: "mono", href: pathTo("learning", "vote", id) }, id));
    })),
    votes > events.length && h("p", { class: "soft" }, words.andMore(votes - events.length)));
}

function lineageCard({ parent, sha256, lineage }) {
  const rows = [[words.parent, parent && h("a", { href: pathTo("learning", "version", String(parent)) }, `@${parent}`)],
    [words.rule, lineage.rule], [words.trainedFor, lineage.seconds !== undefined && duration(lineage.seconds)],
    [words.code, lineage.code], [words.hash, sha256?.slice(0, 16)]].filter(([, value]) => value);
  if (!rows.length) return null;
  return h("section", { class: "card" }, h("h2", {}, words.lineage), h("dl", { class: "facts" },
    rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

export function votePage(root, { api }, id) {
  const body = h("div");
  root.append(back(), h("h1", {}, words.vote), body);
  const loading = load(body, () => api.get(`/v1/feedback/${encodeURIComponent(id)}`), (vote) => {
    const line = new FateLine(api, id);
    line.node.append(...told(vote.fate));
    line.node.hidden = false;
    return h("section", { class: "card" },
      h("p", {}, h("strong", {}, `${vote.name}: ${vote.value}`), " ", h("span", { class: "soft" }, dateTime(vote.time))),
      line.node,
      h("dl", { class: "facts" }, [[words.id, vote.id], [words.answer, vote.interaction_id ?? vote.session_id], [words.person, vote.user]]
        .filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value)))));
  });
  return loading.stop;
}
