// Small charts as inline SVG. A chart is a picture with a sentence for its name; the figures stand in a real
// table beside it (table.js). Sizes are in units of the view box and scale with the page.
import { svg } from "./dom.js";

const WIDTH = 640;
const EDGE = { left: 44, right: 12, top: 12, bottom: 30 };

// `series`: [{name, points: [{x, y, low?, high?}], dashed?}] over x = 0 .. ticks.length - 1. Where `low` and `high`
// are given, a bar shows the interval. `range` is [least, most] of y; `format` writes a value of y.
export function lineChart({ label, series, ticks, range, format, height = 220, step = labelStep(ticks) }) {
  const [least, most] = range;
  const inner = { width: WIDTH - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom };
  const slot = inner.width / Math.max(ticks.length, 1);
  const x = (index) => EDGE.left + slot * (index + 0.5);
  const y = (value) => EDGE.top + inner.height * (1 - (value - least) / (most - least || 1));
  const lines = [0, 0.25, 0.5, 0.75, 1].map((part) => least + part * (most - least));
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, class: "chart" },
    lines.map((value) => [
      svg("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value), class: "rule" }),
      svg("text", { x: EDGE.left - 6, y: y(value) + 4, class: "right" }, format(value)),
    ]),
    ticks.map((tick, index) => index % step === 0 && svg("text", { x: x(index), y: height - 9, class: "middle" }, tick)),
    series.map((one, index) => drawn(one, `series s${index}${one.dashed ? " dashed" : ""}`, x, y)));
}

function drawn({ points, name }, className, x, y) {
  const path = points.map((point, index) => `${index ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`);
  const dense = points.length > 60;
  return svg("g", { class: className },
    points.map((point) => "low" in point && !dense && svg("line", {
      x1: x(point.x), x2: x(point.x), y1: y(point.low), y2: y(point.high), class: "interval",
    })),
    svg("path", { d: path.join("") }),
    dense ? null : points.map((point) => svg("circle", { cx: x(point.x), cy: y(point.y), r: 4 },
      svg("title", {}, point.title ?? name))));
}

// Bars of non-negative `values` [{label, value}], one beside the other.
export function barChart({ label, values, format, height = 160 }) {
  const most = Math.max(...values.map((one) => one.value), 0) || 1;
  const slot = (WIDTH - EDGE.left - EDGE.right) / Math.max(values.length, 1);
  const floor = height - EDGE.bottom;
  const step = labelStep(values);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, class: "chart" },
    [0, most].map((value) => {
      const y = floor - (floor - EDGE.top) * (value / most);
      return [svg("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y, class: "rule" }),
        svg("text", { x: EDGE.left - 6, y: y + 4, class: "right" }, format(value))];
    }),
    values.map((one, index) => {
      const tall = (floor - EDGE.top) * (one.value / most);
      const left = EDGE.left + slot * index;
      return [
        svg("rect", { x: left + slot * 0.14, width: slot * 0.72, y: floor - tall, height: tall, rx: 2, class: "bar" },
          svg("title", {}, `${one.label}: ${format(one.value)}`)),
        index % step === 0 && svg("text", { x: left + slot / 2, y: height - 9, class: "middle" }, one.label),
      ];
    }));
}

// So many labels that about twelve stand below the chart.
function labelStep(ticks) {
  return Math.max(1, Math.ceil(ticks.length / 12));
}
