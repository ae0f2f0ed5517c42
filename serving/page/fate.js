// What became of a vote: its stages, which fill as the learner goes on, and a sentence on what it waits for or why it
// counts nothing. Told again whenever something happens to the learner, and now and then beside, until the vote is
// served or left out.
import { h } from "./dom.js";
import { ago, dateTime, number } from "./format.js";
import { pathTo } from "./router.js";
import { strings } from "./strings.js";

const words = strings.fate;
const STAGES = ["saved", "joined", "weighed", "used", "gate", "canary", "served"];
const FIRST_LOOKS_MS = [1500, 5000];
const FOLLOWED = 30; // of the newest votes
const LOOKED_AT = 3; // of them also without an event: an update that trains sends none
const LOOK_MS = 10_000;
let following = []; // lines whose story goes on
let stream = null;

// The line of a vote by its id, empty until something is known. A `fresh` vote is asked after again soon.
export class FateLine {
  constructor(api, id, fresh = false) {
    Object.assign(this, { api, id });
    this.node = h("div", { class: "fate", hidden: true });
    this.refresh();
    for (const wait of fresh ? FIRST_LOOKS_MS : []) setTimeout(() => this.refresh(), wait);
    follow(this);
  }

  async refresh() {
    if (this.ended) return;
    let fate;
    try {
      ({ fate } = await this.api.get(`/v1/feedback/${encodeURIComponent(this.id)}`));
    } catch (error) {
      if (!("status" in error)) throw error;
      if (error.status === 404) this.end(); // another server's, or forgotten
      return;
    }
    if (this.ended) return;
    this.node.hidden = false;
    this.node.replaceChildren(...told(fate));
    if (fate.skipped || fate.steps.some((step) => step.step === "served")) this.ended = true;
  }

  end() {
    this.ended = true;
    this.node.remove();
  }
}

// The nodes that tell a fate.
export function told(fate) {
  const done = new Map(fate.steps.map((step) => [step.step, step]));
  // There is a trial only where versions come by way of a canary.
  const way = STAGES.filter((stage) => stage !== "canary" || done.has(stage));
  const next = way.find((stage) => !done.has(stage));
  const refused = done.get("gate")?.passed === false;
  const stages = way.map((stage) => {
    const step = done.get(stage);
    const state = step ? "done" : stage === next && !fate.skipped && !refused ? "next" : "open";
    return h("li", { class: stage === "gate" && refused ? "bad" : state, title: step?.at && dateTime(step.at) },
      words.stages[stage](step), h("span", { class: "sr" }, ` (${step ? words.done : words.open})`));
  });
  return [h("ol", {}, stages), h("p", {}, sentence(fate, done))];
}

function sentence(fate, done) {
  if (fate.skipped) return words.skipped(fate.skipped);
  const parts = [];
  const weighed = done.get("weighed");
  if (weighed?.why) parts.push(words.less(number(weighed.weight, 2), weighed.why));
  const used = done.get("used");
  if (done.has("served")) {
    const ref = `${fate.policy}@${used.version}`;
    parts.push(h("a", { href: pathTo("learning", "version", String(used.version)) }, words.served(ref, ago(done.get("served").at))));
  } else if (fate.waits) {
    parts.push(words.waits(fate.waits));
  }
  return parts.flatMap((part) => [part, " "]);
}

// Run once when a node comes into sight.
export function whenSeen(node, run) {
  const observer = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    observer.disconnect();
    run();
  });
  observer.observe(node);
}

function follow(line) {
  following = [...following.filter((other) => !other.ended), line].slice(-FOLLOWED);
  const refresh = (lines) => lines.forEach((one) => one.node.isConnected && one.refresh());
  stream ??= line.api.events("/v1/learner/events", () => refresh(following)) && setInterval(() => {
    if (!document.hidden) refresh(following.slice(-LOOKED_AT));
  }, LOOK_MS);
}
