"""Report of the engine benchmark: tables for the terminal, and two plots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.results import MustShow
from burnish.ops.bench.lib.shapes import SHAPES
from burnish.ops.bench.lib.speed.loads import (
    CONCURRENT,
    FRESH,
    HELD_PEERS,
    LOADS,
    LONG,
    PEERS,
    SHORT,
)
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
    for target in results["shapes"].get(shape, {}):
        for name, row in _contestants(results, shape, target).items():
            yield name if target == PEERS else f"{target}, {name}", target, name, row


def _contestants(results: dict[str, Any], shape: str, target: str) -> dict[str, Any]:
    return results["shapes"][shape].get(target, {}).get("contestants", {})


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
    columns = min(2, len(shapes))
    deep = -(-len(shapes) // columns)
    size = (5 * columns, 4.2 * deep + 0.8)
    figure, axes = plt.subplots(deep, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(shapes) :]:
        axis.set_visible(False)
    for axis, shape in zip(axes.flat, shapes, strict=False):
        for label, target, _, row in _all_rows(results, shape):
            if str(CONCURRENT[0]) not in row or "adapter" in label:
                continue
            colour = colours.setdefault(label, f"C{len(colours) % 10}")
            style = "--" if target in (PEERS, HELD_PEERS) else "-"
            speeds = [row[str(n)]["decode"] for n in CONCURRENT]
            axis.plot(CONCURRENT, speeds, style, marker="o", ms=4, color=colour, label=label)
        axis.set(title=f"model {shape}", xlabel="answers at once", xscale="log", yscale="log")
        axis.set_ylabel("new tokens a second, all together")
        axis.set_xticks(CONCURRENT, [str(n) for n in CONCURRENT])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.legend(*_labels(axes.flat), loc="outside lower center", ncols=2 * columns, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_roofline(results: dict[str, Any], path: Path) -> None:
    """GFLOP/s against flops per byte, below what the machine reads and multiplies: decode at each
    concurrency, then a prompt. A row for each instruction set, a panel for each shape."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    machines = {t: m for t, m in results["machines"].items() if "error" not in m}
    shapes = [shape for shape in results["shapes"] if shape in SHAPES]
    if not machines or not shapes:
        return
    size = (4 * len(shapes), 3.8 * len(machines) + 0.6)
    figure, axes = plt.subplots(
        len(machines),
        len(shapes),
        figsize=size,
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    intensity = np.geomspace(0.5, 2000, 200)
    for panels, (target, machine) in zip(axes, machines.items(), strict=True):
        roof = np.minimum(machine["gflops"], intensity * machine["read_gb_s"])
        reaches = f"{machine['read_gb_s']:.0f} GB/s, {machine['gflops']:.0f} GFLOP/s"
        for axis, shape in zip(panels, shapes, strict=True):
            axis.plot(intensity, roof, "k-", lw=1.2)
            held = (
                HELD_PEERS if target == "avx2" and HELD_PEERS in results["shapes"][shape] else PEERS
            )
            for cells in (target, held):
                for name, row in _contestants(results, shape, cells).items():
                    if name.rpartition(" ")[2] in WEIGHT_BYTES:
                        _draw(axis, shape, name, row)
            axis.set(title=f"{shape}, {target}: {reaches}", xscale="log", yscale="log")
            axis.title.set_fontsize(9)
            axis.grid(alpha=0.3)
        panels[0].set_ylabel("GFLOP/s")
    for axis in axes[-1]:
        axis.set_xlabel("flops per byte that a step has to read")
    figure.legend(*_labels(axes.flat), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


COLOURS = {"bfloat16": "C0", "bf16": "C0", "int8": "C1", "q8_0": "C1", "int4": "C2", "q4_0": "C2"}


def _draw(axis: Any, shape: str, name: str, row: dict[str, Any]) -> None:
    """A contestant's points; ours filled."""
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
        ours = name.startswith("burnish")
        style = "-" if ours else ":"
        fill = COLOURS[form] if ours else "white"
        drawn = {"lw": 1, "ms": 5, "marker": "o", "mfc": fill, "label": name}
        axis.plot(*zip(*points, strict=True), style, color=COLOURS[form], **drawn)


def _labels(axes: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all panels, each label once."""
    known: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        known.update(zip(labels, handles, strict=True))
    return [*known.values()], [*known]
