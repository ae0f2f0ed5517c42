// The service's HTTP face: requests with the key, errors as one class, and the answer's stream.

let key = readKey();
const user = reader();

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

export const models = () => call("GET", "/v1/models").then((list) => list.data);
export const policy = (name) => call("GET", `/v1/policies/${encodeURIComponent(name)}`);
export const judge = (judgement) => call("POST", "/v1/feedback", { user, ...judgement });
export const retract = (id) => call("DELETE", `/v1/feedback/${encodeURIComponent(id)}`);

export function newId(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${kind}-` + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The chunks of an answer as they come. Throws ApiError for a refusal and for a stream that
// breaks off: one that ends without [DONE] is not a whole answer.
export async function* chat(body, signal) {
  const asked = { user, ...body, stream: true };
  const response = await send("POST", "/v1/chat/completions", asked, signal);
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(0, chunk.error.code, chunk.error.message);
    yield chunk;
  }
  throw new ApiError(0, "broken_off", "The connection ended before the answer did.");
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
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? `The server answered ${response.status}.`;
  throw new ApiError(response.status, error?.code, message);
}

// Server-sent events, of which only the data lines are used here.
async function* eventData(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
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
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A name for whoever reads here, made up once in each browser: how reliable somebody's votes are can only
// be told of votes that have a name.
function reader() {
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
