"""Report of the engine benchmark: tables for the terminal, and two plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.results import MustShow
from burnish.ops.bench.lib.shapes import SHAPES
from burnish.ops.bench.lib.speed.loads import CONCURRENT, FRESH, LOADS, LONG, PEERS, SHORT
from burnish.ops.bench.lib.speed.roofline import WEIGHT_BYTES, Work
from rich.console import Console
from rich.table import Table


def print_shape(results: dict[str, Any], shape: str) -> None:
    """Tokens a second of everyone, with the shares of the machine and the latency of a stream."""
    table = Table(title=f"{shape}: tokens a second")
    table.add_column("", no_wrap=True)
    for column in (f"decode, {n}" for n in CONCURRENT):
        table.add_column(column)
    for column in (f"prefill, {SHORT}", f"{LONG}", f"fresh, {FRESH.rows}"):
        table.add_column(column)
    for column in ("of bandwidth", "of flops", f"gap p50/p99 ms, {CONCURRENT[-1]}"):
        table.add_column(column)
    for label, target, name, row in _all_rows(results, shape):
        if "error" in row:
            table.add_row(label, str(row["error"]))
            continue
        prompts = row.get("prompts", {})
        share = results["shares"].get(shape, {}).get(target, {}).get(name, {})
        gaps = row.get(str(CONCURRENT[-1]), {}).get("gap_ms")
        speeds = [row.get(str(n), {}).get("decode") for n in CONCURRENT]
        speeds += [prompts.get(str(SHORT)), prompts.get(str(LONG)), row.get("fresh")]
        table.add_row(
            label,
            *("" if speed is None else f"{speed:,.0f}" for speed in speeds),
            *(f"{share[kind]:.0%}" if kind in share else "" for kind in ("bandwidth", "flops")),
            f"{gaps['p50']} / {gaps['p99']}" if gaps else "",
        )
    if table.row_count:
        Console(width=170).print(table)


def print_must_show(lines: Sequence[MustShow]) -> None:
    table = Table("what", "measured", "goal", "", title="must show")
    for line in lines:
        value = "not measured" if line.value is None else f"{line.value:g}"
        table.add_row(line.line, value, line.goal, "met" if line.met else "NOT MET")
    Console(width=120).print(table)


def _all_rows(
    results: dict[str, Any], shape: str
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Label, target, name and figures of every contestant; ours with the instruction set."""
    for target, cell in results["shapes"].get(shape, {}).items():
        for name, row in cell.get("contestants", {}).items():
            yield name if target == PEERS else f"{target}, {name}", target, name, row


def plot_speeds(results: dict[str, Any], path: Path) -> None:
    """Decoded tokens a second against answers at once: a panel for each shape."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = [
        s
        for s in results["shapes"]
        if any(str(CONCURRENT[0]) in r[3] for r in _all_rows(results, s))
    ]
    if not shapes:
        return
    colours: dict[str, Any] = {}
    figure, axes = plt.subplots(
        1, len(shapes), figsize=(4.6 * len(shapes) + 1, 5), squeeze=False, layout="constrained"
    )
    for axis, shape in zip(axes[0], shapes, strict=True):
        for label, target, _, row in _all_rows(results, shape):
            if str(CONCURRENT[0]) not in row or "adapter" in label:
                continue
            colour = colours.setdefault(label, f"C{len(colours) % 10}")
            style = "--" if target == PEERS else "-"
            speeds = [row[str(n)]["decode"] for n in CONCURRENT]
            axis.plot(CONCURRENT, speeds, style, marker="o", ms=4, color=colour, label=label)
        axis.set(title=f"model {shape}", xlabel="answers at once", xscale="log", yscale="log")
        axis.set_xticks(CONCURRENT, [str(n) for n in CONCURRENT])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("new tokens a second, all together")
    known = {}
    for axis in axes[0]:
        known.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=2 * len(shapes), fontsize=8
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_roofline(results: dict[str, Any], path: Path) -> None:
    """GFLOP/s against flops per byte, below what the machine reads and multiplies: decode at each
    concurrency, and a prompt; a panel for each instruction set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    machines = {t: m for t, m in results["machines"].items() if "error" not in m}
    if not machines:
        return
    figure, axes = plt.subplots(
        1, len(machines), figsize=(7.5 * len(machines), 5.5), squeeze=False, layout="constrained"
    )
    intensity = np.geomspace(0.3, 3000, 200)
    for axis, (target, machine) in zip(axes[0], machines.items(), strict=True):
        roof = np.minimum(machine["gflops"], intensity * machine["read_gb_s"])
        axis.plot(intensity, roof, "k-", lw=1.5)
        axis.text(300, machine["gflops"] * 1.08, f"{machine['gflops']:.0f} GFLOP/s", fontsize=9)
        axis.text(0.3, 0.6 * machine["read_gb_s"], f"{machine['read_gb_s']} GB/s", fontsize=9)
        for number, shape in enumerate(SHAPES):
            for ours, cells in ((True, target), (False, PEERS)):
                rows = results["shapes"].get(shape, {}).get(cells, {}).get("contestants", {})
                for name, row in rows.items():
                    if name.rpartition(" ")[2] in WEIGHT_BYTES:
                        _draw(axis, shape, name, row, f"C{number}", ours)
        axis.set(
            title=f"{target}, {results['threads']} threads",
            xlabel="flops per byte that a step has to read",
            ylabel="GFLOP/s",
            xscale="log",
            yscale="log",
        )
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncols=2, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


MARKERS = {"bfloat16": "o", "bf16": "o", "int8": "s", "q8_0": "s", "int4": "^", "q4_0": "^"}


def _draw(axis: Any, shape: str, name: str, row: dict[str, Any], colour: str, ours: bool) -> None:
    """A contestant's points: one for each concurrency, then the prompt."""
    form, work, load = name.rpartition(" ")[2], Work.of(SHAPES[shape]), LOADS[shape]
    points = []
    for rows in CONCURRENT:
        if str(rows) in row:
            flops = work.flops_per_step(rows, load.context)
            read = work.bytes_per_step(form, rows, load.context)
            points.append((flops / read, flops / rows * row[str(rows)]["decode"] / 1e9))
    if "prompts" in row:
        flops = work.flops_of_prompt(SHORT)
        read = work.bytes_per_step(form, SHORT, 1)
        points.append((flops / read, flops / SHORT * row["prompts"][str(SHORT)] / 1e9))
    if points:
        label = f"{shape}, {name}"
        style = {"ls": "-" if ours else ":", "lw": 1, "ms": 5, "label": label}
        fill = {} if ours else {"markerfacecolor": "white"}
        axis.plot(*zip(*points, strict=True), marker=MARKERS[form], color=colour, **style, **fill)
