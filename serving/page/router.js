// Views by the address: #/learning/version/3 mounts learning.js with the path ["version", "3"].
//
// A view is a module with `mount(root, context)`, which fills `root` and returns a function that ends what it began
// (timers, streams). `context` has {api, strings, say, path, onPath}: `onPath(follow)` takes further paths
// within the view without mounting it anew. With `export const keeps = true` a view is kept, hidden, when left.
import { h } from "./dom.js";
import { failed } from "./states.js";

const VIEWS = {
  chat: () => import("./chat.js"),
  learning: () => import("./learning.js"),
  memory: () => import("./memory.js"),
  operations: () => import("./operations.js"),
};
export const NAMES = Object.keys(VIEWS);

export function parsed(hash) {
  const [name, ...path] = hash.replace(/^#\/?/, "").split("/");
  const known = NAMES.includes(name);
  return { name: known ? name : "chat", path: known ? path.map(decoded).filter(Boolean) : [] };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a lone % is itself
  }
}

export const pathTo = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

// Show the view of the address in `main` from now on; `shown(name, first)` hears of each change of view.
export function startRouter(main, context, shown) {
  const kept = new Map(); // name: the mounted view of a module that keeps
  let current = null;
  let asked = 0;

  async function follow() {
    const { name, path } = parsed(location.hash);
    const turn = (asked += 1);
    if (current?.name === name && current.follow) return current.follow(path);
    const first = current === null;
    let module;
    try {
      module = await VIEWS[name]();
    } catch {
      if (turn !== asked) return;
      leave(current);
      current = null;
      const error = { code: "unreachable", status: 0 };
      return main.replaceChildren(h("div", { class: "view" }, failed(error, () => location.reload())));
    }
    if (turn !== asked) return; // the reader has gone on meanwhile
    leave(current);
    current = kept.get(name) ?? mounted(name, module, path);
    main.replaceChildren(current.root);
    if (kept.has(name)) {
      current.follow?.(path);
      scrollTo(0, current.scroll ?? 0);
    } else {
      scrollTo(0, 0);
    }
    if (module.keeps) kept.set(name, current);
    shown(name, first);
  }

  function mounted(name, module, path) {
    const view = { name, root: h("div", { class: `view ${name}` }), follow: null };
    const onPath = (way) => { view.follow = way; };
    view.unmount = module.mount(view.root, { ...context, path, onPath });
    return view;
  }

  function leave(view) {
    if (!view) return;
    view.scroll = scrollY;
    if (!kept.has(view.name)) view.unmount?.();
  }

  addEventListener("hashchange", follow);
  follow();
}
