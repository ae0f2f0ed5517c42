// The OpenAPI document as a page: one line for each operation, which opens.

const shown = document.getElementById("operations");
const api = await fetch("/openapi.json").then((response) => response.json());

for (const tag of new Set(operations().map((one) => one.tag))) {
  shown.append(element("h2", tag));
  for (const one of operations()) if (one.tag === tag) shown.append(operation(one));
}

function operations() {
  return Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => ({ path, method, told, tag: told.tags?.[0] ?? "" })));
}

function operation({ path, method, told }) {
  const head = element("summary");
  const verb = element("span", method.toUpperCase());
  verb.className = "method";
  head.append(verb, element("code", path));
  const whole = element("details");
  whole.append(head, element("p", told.description ?? told.summary ?? ""));
  if (told.parameters) whole.append(element("h3", "Parameters"), table(told.parameters.map(parameter)));
  const body = told.requestBody?.content?.["application/json"]?.schema;
  if (body) whole.append(element("h3", "Body"), element("pre", JSON.stringify(resolved(body), null, 2)));
  const answers = Object.entries(told.responses).map(([status, answer]) => [status, resolved(answer).description]);
  whole.append(element("h3", "Answers"), table(answers));
  return whole;
}

function parameter({ name, in: place, required, schema }) {
  return [name, place + (required ? ", required" : ""), JSON.stringify(schema)];
}

// What a reference names, with its own references; one inside itself stays a reference.
function resolved(value, within = []) {
  if (Array.isArray(value)) return value.map((one) => resolved(one, within));
  if (value === null || typeof value !== "object") return value;
  const name = value.$ref;
  if (typeof name === "string" && !within.includes(name)) {
    const found = name.split("/").slice(1).reduce((inner, part) => inner[part], api);
    return resolved(found, [...within, name]);
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, resolved(one, within)]));
}

function table(rows) {
  const whole = element("table");
  for (const cells of rows) {
    const row = element("tr");
    row.append(...cells.map((cell) => element("td", cell)));
    whole.append(row);
  }
  return whole;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
