// Numbers, dates and plurals as the page's language writes them, by Intl alone.

const LANGUAGE = document.documentElement.lang || "en";
const cache = new Map();

function made(kind, options = {}) {
  const name = kind.name + JSON.stringify(options);
  if (!cache.has(name)) cache.set(name, new kind(LANGUAGE, options));
  return cache.get(name);
}

export const number = (value, digits = 0) =>
  made(Intl.NumberFormat, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);

// A browser's first formatter takes it long: made while the page still waits for the server.
setTimeout(() => number(0));

export const compact = (value) =>
  made(Intl.NumberFormat, { notation: "compact", maximumFractionDigits: 1 }).format(value);

export const percent = (share, digits = 0) =>
  made(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(share);

// A change of a share, in points, with its sign.
export const points = (share) =>
  made(Intl.NumberFormat, { signDisplay: "exceptZero", maximumFractionDigits: 1 }).format(share * 100);

// `forms` by plural category: {one: "vote", other: "votes"}.
export function plural(count, forms) {
  const form = forms[made(Intl.PluralRules).select(count)] ?? forms.other;
  return `${number(count)} ${form}`;
}

// Seconds since 1970, an ISO string, or a Date.
export function asDate(when) {
  return typeof when === "number" ? new Date(when * 1000) : new Date(when);
}

export const dateTime = (when) =>
  made(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "short" }).format(asDate(when));

export const clock = (when) => made(Intl.DateTimeFormat, { timeStyle: "medium" }).format(asDate(when));

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

// "5 minutes ago", in the largest unit that it fills.
export function ago(when, now = Date.now()) {
  const seconds = (asDate(when).getTime() - now) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return made(Intl.RelativeTimeFormat, { numeric: "auto" }).format(Math.round(seconds / length), unit);
}

// "1 hr, 5 min" of a span in seconds.
export function duration(seconds) {
  const [unit, length] = UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);
  const digits = unit === "second" && seconds < 10 ? 1 : 0;
  return made(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: digits })
    .format(seconds / length);
}

export function bytes(count) {
  const [unit, size] = [["gigabyte", 1e9], ["megabyte", 1e6], ["kilobyte", 1e3], ["byte", 1]]
    .find(([, least]) => count >= least) ?? ["byte", 1];
  return made(Intl.NumberFormat, { style: "unit", unit, maximumFractionDigits: 1 }).format(count / size);
}
