// The memory view: whose memory it is, their sessions and records, search over both, export and erasure.
// One session from within is session.js.
import { ask, toast } from "./dialog.js";
import { h } from "./dom.js";
import { ago, number } from "./format.js";
import { records } from "./records.js";
import { pathTo } from "./router.js";
import { session } from "./session.js";
import { load, nothing } from "./states.js";
import { table } from "./table.js";
import { tried } from "./tried.js";

const PAGE = 50;
const RECORDS = 200;
const FOUND = 20;
const LOOK_MS = 1000; // at an erasure that is under way

export function mount(root, context) {
  let stop = () => {};
  let path;
  const follow = (next) => {
    path = next;
    stop();
    const [kind, name] = path;
    stop = kind === "session" && name ? session(root, context, name) : person(root, context, (kind === "user" && name) || context.api.reader());
  };
  const again = () => follow(path);
  addEventListener("burnish-key", again);
  context.onPath(follow);
  follow(context.path);
  return () => {
    removeEventListener("burnish-key", again);
    stop();
  };
}

function person(root, { api, strings }, user) {
  const words = strings.memory;
  const by = `user=${encodeURIComponent(user)}`;
  const [sessionsPlace, recordsPlace, found] = [h("div"), h("div"), h("div")];
  const stops = [];
  let timer = 0;
  let listed = [];

  // A form of one field.
  const form = (label, value, action, run) => {
    const field = h("input", { value, required: true, maxlength: "2000", autocomplete: "off", spellcheck: "false" });
    return h("form", { class: "row controls", onsubmit: (event) => { event.preventDefault(); run(field.value.trim()); } },
      h("label", { class: "field grows" }, label, field), h("button", { type: "submit", class: "secondary" }, action));
  };
  const card = (title, ...content) => h("section", { class: "card" }, h("h2", {}, title), content);
  const button = (label, onclick) => h("button", { type: "button", class: "secondary", onclick }, label);

  root.replaceChildren(h("h1", {}, words.title), h("p", { class: "lead" }, words.lead),
    form(words.who, user, words.showWho, (name) => { location.hash = pathTo("memory", "user", name); }),
    card(words.sessions, sessionsPlace), card(words.search, form(words.searchFor, "", words.search, find), found),
    card(words.records, recordsPlace),
    card(words.data, h("p", { class: "soft" }, words.dataText(user)), h("div", { class: "row" }, button(words.export, save), button(words.erase, erase))));

  const page = (after) => api.get(`/v1/memory/sessions?${by}&limit=${PAGE}${after && `&after=${encodeURIComponent(after)}`}`).then((told) => told.sessions);
  const sessions = load(sessionsPlace, () => page(""), (first) => { listed = first; return drawn(first); });
  const facts = load(recordsPlace, () => api.get(`/v1/memory/records?${by}&include_superseded=true&limit=${RECORDS}`),
    (told) => records(told.records, { api, strings, again: () => facts.again() }));
  stops.push(sessions.stop, facts.stop);

  function drawn(last) {
    if (!listed.length) return nothing(words.noSessions, words.noSessionsText);
    const count = (label, field) => ({ label, right: true, cell: (one) => number(one[field]) });
    return [table({
      caption: words.sessionsText,
      rows: listed,
      columns: [
        { label: words.session, head: true, cell: (one) => h("a", { href: pathTo("memory", "session", one.session_id) }, one.session_id) },
        count(words.steps, "steps"), count(words.tokens, "tokens"), count(words.tokensView, "tokens_view"), count(words.tokensSaved, "tokens_saved"),
        { label: words.updated, cell: (one) => ago(one.updated_at) },
      ],
    }), last.length === PAGE ? button(words.more, more) : ""];
  }

  async function more() {
    const next = await tried(() => page(listed.at(-1).session_id));
    if (!next) return;
    listed = [...listed, ...next];
    sessionsPlace.replaceChildren(...drawn(next));
  }

  function find(text) {
    const asked = `${by}&query=${encodeURIComponent(text)}&limit=${FOUND}`;
    stops.push(load(found,
      () => Promise.all(["sessions", "records"].map((what) => api.get(`/v1/memory/${what}/search?${asked}${what === "records" ? "&recall=false" : ""}`))),
      ([steps, facts]) => {
        const hits = [
          ...facts.results.map((one) => h("li", {}, h("span", { class: "tag" }, words.record), ` ${one.text}`)),
          ...steps.results.map((one) => h("li", {}, h("a", { href: pathTo("memory", "session", one.session_id) }, words.stepOf(one.cursor, one.session_id)), ` ${String(one.content ?? "").slice(0, 240)}`)),
        ];
        return hits.length ? h("ul", {}, hits) : nothing(words.nothingFound);
      }).stop);
  }

  async function save() {
    const lines = await tried(() => api.text(`/v1/memory/export?${by}`));
    if (lines === null) return;
    const url = URL.createObjectURL(new Blob([lines], { type: "application/x-ndjson" }));
    const link = h("a", { download: "memory.jsonl" });
    link.setAttribute("href", url);
    link.click();
    URL.revokeObjectURL(url);
    toast(words.exported(lines.split("\n").length - 1));
  }

  async function erase() {
    const would = await tried(() => api.post("/v1/erase", { user, dry_run: true }));
    if (!would) return;
    const text = [
      ...Object.entries(would.removed).map(([store, kinds]) => `${store.replaceAll("_", " ")}: ${Object.entries(kinds).map(([kind, count]) => `${number(count)} ${kind}`).join(", ")}`),
      ...Object.entries(would.versions).map(([policy, list]) => words.hasLearnt(policy, list.join(", "))),
    ];
    if (!text.length) return void toast(words.nothingHeld(user));
    const typed = await ask({
      title: words.eraseTitle(user), text: [...text, words.eraseText], action: words.erase, danger: true, field: { label: words.typeName(user), required: true },
    });
    if (typed === null) return;
    if (typed !== user) return void toast(words.otherName);
    watch(await tried(() => api.post("/v1/erase", { user })));
  }

  // Until the receipt says that the stores are clear.
  function watch(receipt) {
    if (!receipt) return;
    toast(words.erasing[receipt.state]);
    sessions.again();
    facts.again();
    if (["requested", "served"].includes(receipt.state)) {
      timer = setTimeout(async () => watch(await tried(() => api.get(`/v1/erase/${encodeURIComponent(receipt.id)}`))), LOOK_MS);
    }
  }

  return () => {
    clearTimeout(timer);
    stops.forEach((stop) => stop());
  };
}
