// One session of memory: its log beside the view that the model sees, or saw at any version; what left the view and why;
// pins, deletions and compactions, each confirmed by the server and taken back at will.
import { toast } from "./dialog.js";
import { h } from "./dom.js";
import { ago, dateTime, number } from "./format.js";
import { pathTo } from "./router.js";
import { load, nothing } from "./states.js";
import { table } from "./table.js";
import { tried } from "./tried.js";
import { windowed } from "./windowed.js";

const ROW_PX = 44;
const LONG = 600; // characters of a message that are shown unfolded
const SHOWN_CHANGES = 20;
const UNDOABLE = new Set(["pin", "unpin", "delete", "compact", "switch"]);

export function session(root, { api, strings, say }, id) {
  const words = strings.memory;
  const at = `/v1/memory/sessions/${encodeURIComponent(id)}`;
  let stats, pins, plan, log; // as the server told them last
  let asked = { budget: 2000 }; // of the view: budget, query, version (none: now)
  let seen = new Map(); // cursor: form, of what the view shows
  const [head, logPlace, viewPlace, plansPlace, changesPlace] =
    ["part", "part", "part", "card", "card"].map((name) => h("section", { class: name }));
  const stops = new Map();
  const filling = (place, fetch, render) => {
    stops.get(place)?.();
    stops.set(place, load(place, fetch, render).stop);
  };
  const textOf = (one) => (typeof one.content === "string" && one.content) || JSON.stringify(one.tool_calls ?? one.content ?? "");
  const roleOf = (one) => words.roles[one.role] ?? one.role;
  const quoted = (label, text) => h("pre", { tabindex: "0", role: "group", "aria-label": label }, text);

  const body = h("div");
  root.replaceChildren(h("p", {}, h("a", { href: pathTo("memory") }, words.back)), h("h1", { class: "name" }, id), body);
  filling(body, facts, (found) => {
    take(found);
    if (!stats.steps) return nothing(words.noSteps);
    drawLog();
    drawView();
    return [head, controls(), h("div", { class: "beside" }, logPlace, viewPlace), plansPlace, changesPlace];
  });

  async function facts() {
    return Promise.all(["stats", "pins", "compactions"].map((what) => api.get(`${at}/${what}`)));
  }

  function take([told, held, { compactions: plans }]) {
    stats = told;
    pins = new Map(held.pins.map((pin) => [pin.cursor, pin.why]));
    plan = plans.find((one) => one.in_force);
    head.replaceChildren(summary());
    plansPlace.replaceChildren(h("h2", {}, words.compactions), compactions(plans));
    filling(changesPlace, () => api.get(`${at}/changes?limit=${SHOWN_CHANGES}`), changes);
  }

  // Ask the server for a change; what is seen afterwards is what it says now. `said` tells it, with an undo.
  async function change(what, sent, said) {
    const told = await tried(async () => {
      const answer = await api.post(`${at}/${what}`, sent);
      take(await facts());
      return answer;
    });
    if (!told) return;
    log.reload();
    drawView();
    toast(said(told), what === "undo" ? null : { label: strings.undo, run: () => undo(told.version) });
  }

  const undo = (version) => change("undo", { version }, () => words.undone);

  function summary() {
    const told = [
      [words.steps, stats.steps], [words.tokens, stats.tokens], [words.tokensView, stats.tokens_view],
      [words.tokensSaved, stats.tokens_saved], [words.pinned, pins.size], [words.compactions, stats.compactions],
    ].map(([name, count]) => [name, number(count)]);
    return h("dl", { class: "facts" }, [...told, [words.updated, ago(stats.updated_at)]]
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  function controls() {
    const last = stats.version;
    const then = h("span", {}, words.now);
    const slider = h("input", {
      type: "range", min: "1", max: String(last), value: String(last),
      oninput: () => { then.textContent = words.versionOf(slider.value, last); },
      onchange: () => {
        asked.version = Number(slider.value) < last ? Number(slider.value) : undefined;
        if (!asked.version) then.textContent = words.now;
        drawLog();
        drawView();
      },
    });
    const budget = h("input", { type: "number", min: "1", max: "1000000", value: String(asked.budget), required: true });
    const query = h("input", { type: "text", maxlength: "2000" });
    return h("form", {
      class: "row controls",
      onsubmit: (event) => {
        event.preventDefault();
        asked = { ...asked, budget: budget.value, query: query.value.trim() };
        drawView();
      },
    },
      h("label", { class: "field" }, words.asOf, " ", then, slider),
      h("label", { class: "field" }, words.budget, budget),
      h("label", { class: "field grows" }, words.question, query),
      h("button", { type: "submit", class: "secondary" }, words.showView));
  }

  // -- the log --------------------------------------------------------------------------------------

  function drawLog() {
    const then = asked.version;
    log = windowed({
      label: words.log, count: Number(stats.newest), height: ROW_PX, row, failed: (error) => say(error.message),
      async fetchPage(start, size) {
        const part = `after=${start - 1}&limit=${size}`;
        const [{ events }, { verdicts }] = await Promise.all([
          api.get(`${at}/events?${part}${then ? `&version=${then}` : ""}`),
          plan && !then ? api.get(`${at}/compactions/${plan.plan}?${part}`) : { verdicts: [] },
        ]);
        const why = new Map(verdicts.map((one) => [one.cursor, one]));
        return new Map(events.map((step) => [Number(step.cursor), { ...step, verdict: why.get(step.cursor) }]));
      },
    });
    logPlace.replaceChildren(h("h2", {}, words.log), h("p", { class: "soft" }, words.logText), log.root);
  }

  function row(place, step) {
    if (!step) return h("span", { class: "soft gap" }, step === null ? words.gone(place) : String(place));
    const form = seen.get(step.cursor);
    const left = !form && step.verdict && step.verdict.verdict !== "keep" && words.verdicts[step.verdict.verdict];
    return h("button", { type: "button", class: "step", onclick: () => open(step) },
      h("span", { class: "place" }, step.cursor), h("span", {}, roleOf(step)),
      h("span", { class: "text" }, textOf(step).slice(0, 200)),
      pins.has(step.cursor) && h("span", { class: "tag" }, words.isPinned),
      form && h("span", { class: "tag good" }, words.forms[form]), left && h("span", { class: "tag warn" }, left),
      h("span", {}, number(step.tokens)));
  }

  function open(step) {
    const { cursor } = step;
    const isPinned = pins.has(cursor);
    const act = (label, run) => h("button", { type: "button", class: "secondary", onclick: () => { box.close(); run(); } }, label);
    const box = boxed(words.stepTitle(cursor),
      h("p", { class: "soft" }, [roleOf(step), step.user, dateTime(step.at), words.tokensOf(step.tokens)].filter(Boolean).join(" · ")),
      step.verdict && h("p", {}, `${words.verdicts[step.verdict.verdict]}: ${step.verdict.why}`),
      isPinned && h("p", {}, pins.get(cursor) === "rule" ? words.pinnedRule : words.pinnedUser),
      quoted(words.content, textOf(step)),
      h("div", { class: "row" },
        act(isPinned ? words.unpin : words.pin, () => change("pin", { cursor, pinned: !isPinned }, () => words.pinnedNow(cursor, !isPinned))),
        act(words.expand, () => expand({ cursors: [cursor] })),
        act(words.remove, () => change("delete", { cursors: [cursor] }, (told) => words.removed(told.steps.length, dateTime(told.until))))));
  }

  function boxed(title, ...content) {
    const held = document.activeElement;
    const dialog = h("dialog", { class: "large", "aria-labelledby": "box-title", onclose: () => { dialog.remove(); held?.focus(); } },
      h("h2", { id: "box-title" }, title), content,
      h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, strings.close)));
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
  }

  async function expand(what) {
    const found = await tried(() => api.post(`${at}/expand`, what));
    if (found) boxed(words.behind, found.next && h("p", {}, words.firstOf(found.steps.length)),
      found.steps.map((step) => [h("p", { class: "soft" }, `${step.cursor} · ${roleOf(step)}`), quoted(words.stepTitle(step.cursor), textOf(step))]));
  }

  // -- the view -------------------------------------------------------------------------------------

  function drawView() {
    const place = h("div");
    const wanted = Object.entries(asked).filter(([, value]) => value);
    viewPlace.replaceChildren(h("h2", {}, asked.version ? words.viewThen(asked.version) : words.view), place);
    stops.get("view")?.();
    stops.set("view", load(place, () => api.get(`${at}/context?${new URLSearchParams(wanted)}`), view).stop);
  }

  function view({ messages, tokens, left_out: left, policy }) {
    seen = new Map(messages.flatMap((message) => message.cursors.map((cursor) => [cursor, message.form ?? "whole"])));
    log.redraw();
    const missing = left.steps || left.shortened || left.summarised;
    return [
      h("p", {}, words.fills(tokens, asked.budget), policy && ` ${words.decidedBy(policy)}`),
      missing ? h("p", { class: "left" }, words.left(left), ` ${left.why}.`) : h("p", { class: "soft" }, words.allShown),
      h("div", { class: "view-of", tabindex: "0", role: "group", "aria-label": words.view }, h("ol", {}, messages.map(message))),
    ];
  }

  function message(one) {
    const text = textOf(one);
    const said = h("div", { class: "said" }, text);
    return h("li", { class: (one.node || one.form) && "made" },
      h("p", { class: "soft" }, [roleOf(one), one.cursors.length && words.fromSteps(one.cursors), words.forms[one.form]].filter(Boolean).join(" · "),
        one.node && h("button", { type: "button", class: "link", onclick: () => expand({ node: one.node }) }, words.expandSummary)),
      text.length <= LONG ? said : h("details", {}, h("summary", {}, `${text.slice(0, 160)}…`), said));
  }

  // -- what was changed -----------------------------------------------------------------------------

  function compactions(plans) {
    if (!plans.length) return h("p", { class: "soft" }, words.noCompactions);
    const back = (to) => change("revert", { plan: to }, () => words.putBackNow(to));
    return table({
      caption: words.compactionsText,
      rows: plans,
      columns: [
        { label: words.plan, head: true, cell: (one) => `${one.plan} (${one.policy})` },
        { label: words.when, cell: (one) => dateTime(one.created_at) },
        { label: words.tokens, cell: (one) => `${number(one.tokens_before)} → ${number(one.tokens_after)}` },
        { label: words.tokensSaved, right: true, cell: (one) => number(Math.max(0, one.tokens_before - one.tokens_after)) },
        { label: words.whatLeft, cell: (one) => Object.entries(one.counts).map(([verdict, count]) => `${words.verdicts[verdict] ?? verdict} ${number(count)}`).join(", ") },
        { label: words.inForce, cell: (one) => (one.in_force ? words.yes : h("button", { type: "button", class: "link", onclick: () => back(one.plan) }, words.putBack)) },
      ],
    });
  }

  function changes({ changes: made }) {
    const title = h("h2", {}, words.changes);
    if (!made.length) return [title, h("p", { class: "soft" }, words.noChanges)];
    const undone = new Set(made.map((one) => one.undoes));
    const open = (one) => UNDOABLE.has(one.kind) && !undone.has(one.version) && !one.undoes;
    return [title, table({
      caption: words.changesText,
      rows: made,
      columns: [
        { label: words.version, head: true, cell: (one) => number(one.version) },
        { label: words.when, cell: (one) => dateTime(one.at) },
        { label: words.what, cell: (one) => `${words.kinds[one.kind] ?? one.kind} ${one.cursors?.slice(0, 12).join(", ") ?? one.to ?? ""}` },
        { label: strings.undo, cell: (one) => open(one) && h("button", { type: "button", class: "link", "aria-label": words.undoOf(one.version), onclick: () => undo(one.version) }, strings.undo) },
      ],
    })];
  }

  return () => stops.forEach((stop) => stop());
}
