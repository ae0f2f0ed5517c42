// The service's HTTP face: requests with the key, errors as one class, and the answer's stream.

let key = readKey();
const user = readerName();

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function useKey(value) {
  key = value;
  try {
    sessionStorage.setItem("burnish.key", value);
  } catch {
    // Without storage the key lives as long as the page.
  }
}

// Who wants to know: that a key is needed, and whether the server can be reached.
let needKey = () => {};
let reached = () => {};
export const onKeyNeeded = (hears) => { needKey = hears; };
export const onReach = (hears) => { reached = hears; };

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);
export const patch = (path, body) => call("PATCH", path, body);
export const text = (path) => send("GET", path).then((response) => response.text());
export const remove = (path) => call("DELETE", path);
export const reader = () => user;

export const models = () => call("GET", "/v1/models").then((list) => list.data);
export const policy = (name, limit) => call("GET", `/v1/policies/${encodeURIComponent(name)}?limit=${limit}`);
export const judge = (judgement) => call("POST", "/v1/feedback", { user, ...judgement });
export const judgeAll = (judgements) =>
  call("POST", "/v1/feedback", judgements.map((judgement) => ({ user, ...judgement })));
export const retract = (id, interaction) =>
  call("DELETE", `/v1/feedback/${encodeURIComponent(id)}?interaction_id=${encodeURIComponent(interaction)}`);

export function newId(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${kind}-` + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The chunks of an answer as they come. Throws ApiError for a refusal and for a stream that
// breaks off: one that ends without [DONE] is not a whole answer.
export async function* chat(body, signal) {
  const asked = { user, ...body, stream: true };
  const response = await send("POST", "/v1/chat/completions", asked, signal);
  for await (const { data } of messages(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(0, chunk.error.code, chunk.error.message);
    yield chunk;
  }
  throw new ApiError(0, "broken_off", "The connection ended before the answer did.");
}

// The events that a path sends (server-sent events), from now on: `hears(name, data)` until `stop()`, which is
// returned. A connection that ends is made again, ever more rarely while the server is away.
export function events(path, hears) {
  const stop = new AbortController();
  (async () => {
    for (let wait = 1; !stop.signal.aborted; wait = Math.min(wait * 2, 16)) {
      try {
        const response = await send("GET", path, undefined, stop.signal);
        wait = 1;
        for await (const { name, data } of messages(response.body)) hears(name, JSON.parse(data));
      } catch (error) {
        if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
        if (error.status && error.status < 500) return; // not there, or not for this key
      }
      await new Promise((done) => setTimeout(done, wait * 1000));
    }
  })();
  return () => stop.abort();
}

async function call(method, path, body) {
  const response = await send(method, path, body);
  return response.status === 204 ? null : response.json();
}

async function send(method, path, body, signal) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reached(false);
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  reached(true);
  if (response.ok) return response;
  if (response.status === 401) needKey();
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? `The server answered ${response.status}.`;
  throw new ApiError(response.status, error?.code, message);
}

// Server-sent events. Throws ApiError where the connection is lost.
async function* messages(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "message";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new ApiError(0, "broken_off", "The connection was lost before the answer ended.");
      });
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        if (!line.startsWith("data:")) continue;
        yield { name, data: line.slice(5).trim() };
        name = "message";
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A name for whoever reads here, made up once in each browser: how reliable somebody's votes are can only
// be told of votes that have a name.
function readerName() {
  const made = newId("browser");
  try {
    const known = localStorage.getItem("burnish.reader") ?? made;
    localStorage.setItem("burnish.reader", known);
    return known;
  } catch {
    return made; // Without storage, for as long as the page lives.
  }
}

function readKey() {
  try {
    return sessionStorage.getItem("burnish.key") ?? "";
  } catch {
    return "";
  }
}
