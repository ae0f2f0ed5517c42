"""What another user of the machine can do to `burnish up`: `python -m burnish.ops.bench.doors`.

Every door that opens is printed; exit code 1 if one does. Tried before an API key is made, and after.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import run_service
from burnish.ops.bench.lib.stranger import try_doors
from burnish.serving.api.keys import KeyStore


def main(
    kafka: Annotated[bool, typer.Option(help="With a Kafka node of its own.")] = True,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    with tempfile.TemporaryDirectory(prefix="burnish-doors-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # the data folder has to protect itself
        with run_service(folder, kafka=kafka) as service:
            service.wait_until_idle()  # MLflow's page is the last to come
            found = try_doors(service.data_dir)
            KeyStore(service.data_dir / "keys.sqlite").create("bench")
            found += try_doors(service.data_dir)
    opened = [one for one in found if one.opened]
    for one in opened:
        print(f"open: {one.what}: {one.door} ({one.said})")
    tried, open_ = (Counter(one.what for one in which) for which in (found, opened))
    figures = {f"{what}_tried": count for what, count in tried.items()}
    figures |= {f"{what}_open": open_[what] for what in tried}
    print_figures("doors that another user of the machine finds", figures)
    must_show = [
        MustShow(
            "what another user of the machine, or a foreign page, can read or change",
            len(opened),
            "0",
            not opened,
        )
    ]
    print(write_results("doors", figures, out, must_show=must_show))
    raise typer.Exit(1 if opened else 0)


if __name__ == "__main__":
    typer.run(main)
