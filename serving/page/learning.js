// The learning view: what was learnt, from whom, and what it cost. Figures are the learner's report, made after each
// update; nothing is counted here. Charts are figures.js, the history timeline.js, one version or vote version.js.
import { changesCard } from "./changes.js";
import { ask, toast } from "./dialog.js";
import { h } from "./dom.js";
import { familiesCard, likedCard, skillCard } from "./figures.js";
import { ago, duration, number } from "./format.js";
import { pathTo } from "./router.js";
import { load, nothing } from "./states.js";
import { strings } from "./strings.js";
import { canaryCard, timelineCard } from "./timeline.js";
import { versionPage, votePage } from "./version.js";

const words = strings.learning;
const VERSIONS = 120;
const TICKS = 60;
const SETTLE_MS = 400;

export function mount(root, context) {
  const { api } = context;
  let leave = () => {};
  const follow = ([kind, ...rest]) => {
    leave();
    root.replaceChildren();
    if (kind === "version") leave = versionPage(root, context, rest, (...given) => act(api, ...given));
    else if (kind === "vote") leave = votePage(root, context, rest.join("/"));
    else leave = overview(root, context, kind ?? "default");
  };
  context.onPath(follow);
  follow(context.path);
  return () => leave();
}

function overview(root, { api }, policy) {
  const cards = new Map(); // name: {node, told}
  const body = h("div", { class: "learning-body" });
  root.append(h("h1", {}, words.title), body);
  const loading = load(body, () => gathered(api, policy), (found) => grid(cards, found, api));
  let timer = 0;
  let heard = false; // what serves is told at first, and is known
  const stop = api.events("/v1/learner/events", (name) => {
    if (name === "policies" && !heard) {
      heard = true;
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(loading.again, SETTLE_MS); // several things happen at once
  });
  const again = () => loading.again();
  addEventListener("burnish-key", again);
  addEventListener("burnish-back", again);
  addEventListener("burnish-acted", again);
  return () => {
    for (const name of ["burnish-key", "burnish-back", "burnish-acted"]) removeEventListener(name, again);
    loading.stop();
    stop();
    clearTimeout(timer);
  };
}

// All that is shown. What an older server or a key's scopes do not offer is null. `champion` is a promise: a gate's
// report takes longer than the rest, and one card alone waits for it.
async function gathered(api, policy) {
  const optional = (path) => api.get(path).catch((error) => {
    if (error.code === "unreachable" || !("status" in error)) throw error;
    return null;
  });
  const of = `policy=${encodeURIComponent(policy)}`;
  const at = `/v1/policies/${encodeURIComponent(policy)}`;
  const [known, ticks, report, alarms, about, canary] = await Promise.all([
    api.get(`${at}?limit=${VERSIONS}`),
    api.get(`/v1/learner?limit=${TICKS}`),
    optional(`/v1/learner/report?${of}`),
    optional(`/v1/learner/alarms?${of}`),
    optional("/version"),
    optional(`${at}/canary`),
  ]);
  const champion = known.champion ? api.get(`${at}/versions/${known.champion}?votes=0`).catch(() => null) : null;
  return { policy, known, ticks, report: report?.report, unreported: report?.why, alarms, about, canary, champion };
}

// Cards stay as they are while what they tell does: focus and what is folded out are kept.
function grid(cards, found, api) {
  const made = {
    headline: () => headline(found),
    controls: () => controls(found, api),
    alarms: () => alarmsCard(found),
    liked: () => likedCard(found),
    why: () => whyCard(found),
    canary: () => canaryCard(found),
    timeline: () => timelineCard(found),
    changes: () => changesCard(api, found.policy, promptsOf(found)),
    skill: () => skillCard(found),
  };
  const concerns = {
    headline: [found.report?.at, found.unreported, found.known.champion], controls: [found.known.champion, found.known.previous, found.known.paused],
    alarms: found.alarms, liked: found.report?.at, why: [found.ticks, found.report?.advice],
    canary: found.canary,
    timeline: [found.known.history, found.known.versions, found.known.champion, found.known.challenger],
    changes: found.policy, skill: found.known.versions,
  };
  const put = (name, concern, make) => {
    const told = JSON.stringify(concern ?? null);
    const card = cards.get(name) ?? { node: h("section", { class: ["headline", "controls"].includes(name) ? name : `card ${name}` }) };
    if (card.told !== told) card.node.replaceChildren(...[make()].flat().filter(Boolean));
    card.told = told;
    card.node.hidden = !card.node.childNodes.length;
    cards.set(name, card);
  };
  for (const [name, make] of Object.entries(made)) put(name, concerns[name], make);
  if (!cards.has("families")) put("families", null, () => []);
  found.champion?.then((champion) => put("families", champion, () => familiesCard(champion)));
  const node = (name) => cards.get(name).node;
  const column = (...names) => h("div", { class: "column" }, names.map(node));
  return [node("headline"), node("controls"), node("alarms"),
    h("div", { class: "columns" }, column("liked", "changes", "skill", "families"), column("why", "canary", "timeline"))];
}

function headline({ report, unreported, known }) {
  if (!report) return h("p", { class: "lead" }, words.noReport(unreported));
  const change = report.comparison;
  return [
    h("p", { class: "verdict" }, words.verdicts[report.verdict] ?? report.verdict),
    h("p", { class: "lead" }, words.from(number(report.votes), number(report.people), report.versions.length, ago(report.at))),
    h("dl", { class: "facts" },
      fact(words.serves, known.champion ? h("a", { href: pathTo("learning", "version", String(known.champion)) }, `${known.name}@${known.champion}`) : words.nobody),
      fact(words.change, change ? words.points(change) : words.tooFew),
      fact(words.tell, report.discrimination?.auroc == null ? words.unknown : words.auroc(report.discrimination)),
      fact(words.refused, words.ofUpdates(report.refused, report.updates))),
  ];
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

// -- what can be done -----------------------------------------------------------------------------------

function controls({ policy, known }, api) {
  const { paused } = known;
  const at = (what) => `/v1/policies/${encodeURIComponent(policy)}/${what}`;
  const button = (name, enabled, path, body, extra = {}) => h("button", {
    type: "button", class: "secondary", disabled: !enabled, onclick: () => act(api, words.acts[name], path, body, extra),
  }, words.acts[name].label);
  return h("div", { class: "row" },
    button("update", true, "/v1/learner/update", { policy }, { plain: true }),
    paused ? button("resume", true, at("resume"), {}) : button("pause", true, at("pause"), {}),
    button("rollback", known.previous, at("rollback"), {}, { danger: true }),
    paused && h("span", { class: "tag warn" }, words.pausedBy(paused.who, ago(paused.at), paused.why)));
}

// Ask, do it, say what came of it. `plain` takes no reason.
async function act(api, { title, text, label, done }, path, body, { plain = false, danger = false } = {}) {
  const field = plain ? null : { label: words.why };
  const why = await ask({ title, text, action: label, danger, field });
  if (why === null) return;
  try {
    await api.post(path, why ? { ...body, why } : body);
    toast(done);
    dispatchEvent(new Event("burnish-acted"));
  } catch (error) {
    if (!("status" in error)) throw error;
    toast(error.status === 403 ? words.notAllowed : words.notDone(error.message));
  }
}

// -- alarms, and why nothing trained -----------------------------------------------------------------------

function alarmsCard({ alarms }) {
  const open = alarms?.open ?? [];
  if (!open.length) return [];
  return [
    h("h2", {}, words.alarms(open.length)), alarms.holds && h("p", {}, words.holds),
    h("ul", { class: "plain" }, open.map((alarm) => h("li", {},
      h("span", { class: alarm.silenced ? "tag" : "tag bad" }, `${alarm.name} @${alarm.version}`), " ", alarm.says,
      alarm.silenced && h("span", { class: "soft" }, ` (${words.silenced})`)))),
  ];
}

function whyCard({ policy, ticks, report }) {
  if (!ticks.available) return [h("h2", {}, words.ticks), h("p", {}, ticks.why)];
  const updates = ticks.ticks.filter((tick) => tick.kind !== "intake" && tick.policy === policy);
  const [last] = updates;
  const advice = report?.advice ?? [];
  return [
    h("h2", {}, words.ticks),
    !updates.length && nothing(words.noTicks, words.noTicksText),
    last && h("p", { class: "now" },
      h("span", { class: last.why_not ? "tag warn" : "tag good" }, last.why_not ? words.idle : words.trained), " ",
      last.why_not ? words.because(last.why_not) : `${last.did}.`),
    ticks.problem && h("p", { class: "now" }, h("span", { class: "tag bad" }, words.behind), " ", ticks.problem),
    advice.length > 0 && [h("h3", {}, words.wouldHelp), h("ul", {}, advice.map((one) => h("li", {}, one.says.split("\x60").map((part, index) => (index % 2 ? h("code", {}, part) : part)))))],
    last && h("details", {}, h("summary", {}, words.latest),
      h("ol", { class: "ticks" }, runs(updates).slice(0, 12).map((run) => h("li", {},
        h("time", { datetime: new Date(run.at * 1000).toISOString() }, ago(run.at)), " ",
        run.why_not ? words.because(run.why_not) : run.did,
        run.seconds > 1 && h("span", { class: "soft" }, ` (${duration(run.seconds)})`),
        run.times > 1 && h("span", { class: "soft" }, ` ${words.times(run.times)}`))))),
  ].flat();
}

// Ticks that say the same one after another, as one.
function runs(ticks) {
  const found = [];
  for (const tick of ticks) {
    const last = found.at(-1);
    if (last?.why_not && last.why_not === tick.why_not) last.times += 1;
    else found.push({ ...tick, times: 1 });
  }
  return found;
}

function promptsOf({ about }) {
  return strings.welcome.prompts[about?.model] ?? strings.welcome.prompts.general;
}
