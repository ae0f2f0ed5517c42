// The operations view: health of every part, what to do where it is not well, queue, tokens, latency, staleness, logs.
import { barChart, lineChart } from "./chart.js";
import { h } from "./dom.js";
import { ago, bytes, clock, dateTime, number, percent } from "./format.js";
import { load, nothing } from "./states.js";
import { table } from "./table.js";

const EVERY_MS = 2000;
const KEPT = 60; // readings in the chart
const LINES = 100;

export function mount(root, { api, strings, say }) {
  const words = strings.operations;
  const place = h("div");
  const logs = h("section", { class: "card" });
  const readings = [];
  let last = null; // the reading before, for rates
  let status = "";
  let timer = 0;
  root.append(h("h1", {}, words.title), h("p", { class: "lead" }, words.lead), place, logs);

  const looking = load(place, () => api.get("/v1/operations"), shown);
  const logging = load(logs, () => api.get("/v1/operations/logs"), ({ logs: names }) => logged(names));
  const tick = async () => {
    if (!document.hidden) await looking.again();
    timer = setTimeout(tick, EVERY_MS);
  };
  timer = setTimeout(tick, EVERY_MS);

  function shown(now) {
    if (status && status !== now.status) say(words.status[now.status]);
    status = now.status;
    const rate = rates(now);
    const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.dataset.kind));
    return [health(now), traffic(now, rate), latency(now.latency, open), staleness(now)];
  }

  function rates(now) {
    const seconds = last && now.at - last.at;
    const of = (name) => now.engine[name] - last.engine[name];
    const rate = seconds > 0 && of("tokens_total") >= 0
      ? { written: of("tokens_total") / seconds, read: of("prompt_tokens_total") / seconds } : null;
    last = now;
    if (rate) readings.push({ at: now.at, rate: rate.written });
    if (readings.length > KEPT) readings.shift();
    return rate;
  }

  // -- health -----------------------------------------------------------------------------------

  const MARKS = { ok: "good", degraded: "warn", failed: "bad" };

  function health({ status: how, parts, problems, started_at: since }) {
    return h("section", { class: "card" }, h("h2", {}, words.health),
      h("p", { class: "how" }, words.status[how], " ", h("span", { class: "soft" }, words.since(dateTime(since)))),
      h("ul", { class: "parts" }, parts.map(({ part, state }) => h("li", {}, h("span", {}, part), " ",
        h("span", { class: `tag ${MARKS[state]}` }, words.partStates[state])))),
      problems.length > 0 && h("div", {}, h("h3", {}, words.problems), h("ul", { class: "problems" },
        problems.map((problem) => h("li", { class: problem.blocks ? "blocks" : null }, h("p", {}, problem.says), h("p", { class: "soft" }, problem.do))))));
  }

  function traffic({ engine, spool, disk, requests, unrecorded }, rate) {
    const facts = [
      [words.waiting, number(engine.waiting)], [words.running, number(engine.running)], [words.inFlight, number(requests.in_flight)],
      [words.written, rate ? number(rate.written, 1) : words.measuring], [words.read, rate ? number(rate.read, 1) : words.measuring],
      [words.cache, engine.total_blocks ? percent(1 - engine.free_blocks / engine.total_blocks) : "–"],
      [words.spool, `${number(spool.events)} (${bytes(spool.bytes)})`],
      [words.disk, bytes(disk.free_bytes)], [words.unrecorded, number(unrecorded)], [words.errors, number(engine.errors_total)],
    ];
    const most = Math.max(4, ...readings.map((one) => one.rate));
    return h("section", { class: "card" }, h("h2", {}, words.traffic),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      readings.length > 1 && lineChart({
        label: words.chart(number(readings.at(-1).rate, 1)), height: 140, range: [0, most], format: (value) => number(value),
        ticks: readings.map((one) => clock(one.at)), step: 15,
        series: [{ name: words.written, points: readings.map((one, index) => ({ x: index, y: one.rate })) }],
      }),
      h("p", { class: "soft small" }, words.statuses, ": ", Object.entries(requests.by_status).map(([code, count]) => `${code} × ${number(count)}`).join(", ")));
  }

  // -- latency ----------------------------------------------------------------------------------

  function latency(kinds, open) {
    return h("section", { class: "card" }, h("h2", {}, words.latency), h("div", { class: "cards" },
      Object.entries(kinds).map(([kind, found]) => h("div", {}, h("h3", {}, words.kinds[kind]), histogram(kind, found, open.has(kind))))));
  }

  function histogram(kind, { count, sum_s: sum, buckets }, isOpen) {
    if (!count) return h("p", { class: "soft" }, words.noAnswers);
    const filled = buckets.map((bucket, index) => bucket.count > 0 && index).filter((index) => index !== false);
    const values = buckets.slice(filled[0], filled.at(-1) + 1)
      .map((bucket) => ({ label: bucket.upto === null ? words.beyond : words.seconds(bucket.upto), value: bucket.count }));
    return [
      h("p", { class: "soft" }, words.mean(words.seconds(sum / count), count)),
      barChart({ label: words.histogram(words.kinds[kind], count), values, format: (value) => number(value) }),
      h("details", { "data-kind": kind, open: isOpen }, h("summary", {}, words.figures), table({
        caption: words.kinds[kind], hidden: true, rows: values,
        columns: [{ label: words.upto, head: true, cell: (one) => one.label }, { label: words.answers, right: true, cell: (one) => number(one.value) }],
      })),
    ];
  }

  // -- staleness --------------------------------------------------------------------------------

  function staleness({ learner, policies, at }) {
    const rows = [
      learner.available && { part: words.intake, at: learner.intake_at, did: "" },
      ...learner.ticks.map((one) => ({ part: words.tick(one.kind), at: one.at, did: one.did + (one.why_not ? `: ${one.why_not}` : "") })),
      ...policies.flatMap((one) => [
        { part: words.swap(one.policy), at: one.swapped_at, did: one.champion === null ? "" : words.serves(one.champion) },
        one.reward_age_s !== null && { part: words.reward(one.policy), at: at - one.reward_age_s, did: "" },
      ]),
    ].filter(Boolean);
    return h("section", { class: "card" }, h("h2", {}, words.stale), !learner.available && h("p", { class: "left" }, words.away),
      table({
        caption: words.staleText,
        rows,
        columns: [
          { label: words.part, head: true, cell: (one) => one.part },
          { label: words.last, cell: (one) => (one.at ? ago(one.at, at * 1000) : words.never) },
          { label: words.did, cell: (one) => one.did },
        ],
      }));
  }

  // -- logs -------------------------------------------------------------------------------------

  let name = null;
  let reading = null;
  function logged(names) {
    const title = h("h2", {}, words.logs);
    if (!names.length) return [title, nothing(words.noLogs, words.noLogsText)];
    if (!names.includes(name)) name = names.includes("serving") ? "serving" : names[0];
    const lines = h("div");
    const choice = h("select", { onchange: () => { name = choice.value; read(); } },
      names.map((one) => h("option", { value: one, selected: one === name }, one)));
    function read() {
      reading?.stop();
      reading = load(lines, () => api.get(`/v1/operations/logs?name=${encodeURIComponent(name)}&lines=${LINES}`), (told) => {
        if (!told.lines.length) return nothing(words.noLines);
        const text = h("pre", { tabindex: "0", role: "group", "aria-label": name }, told.lines.join("\n"));
        requestAnimationFrame(() => { text.scrollTop = text.scrollHeight; });
        return text;
      });
    }
    read();
    return [title, h("p", { class: "soft" }, words.logsText),
      h("div", { class: "row controls" }, h("label", { class: "field" }, words.log, choice),
        h("button", { type: "button", class: "secondary", onclick: read }, words.refresh)), lines];
  }

  return () => {
    clearTimeout(timer);
    looking.stop();
    logging.stop();
    reading?.stop();
  };
}
