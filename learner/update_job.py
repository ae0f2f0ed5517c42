"""What an update's job runs: one tick of one policy, or of memory's compactor, on one rank or several.

    python -m burnish.learner.update_job POLICY
    torchrun --nproc-per-node=4 -m burnish.learner.update_job POLICY

Under torchrun the first rank runs the tick and trains through all of them.
"""

from __future__ import annotations

import logging
import os
import sys

from burnish.feedback.contract import COMPACTOR
from burnish.feedback.telemetry.logs import format_logs
from burnish.learner import work
from burnish.learner.training import ranks

log = logging.getLogger(__name__)


def main(policy: str) -> None:
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO)
    format_logs(work.settings(), logging.getLogger())
    if not ranks.started_by_torchrun():
        run(policy)
        return
    with ranks.joined() as rank:
        if rank:
            ranks.follow()
        else:
            run(policy)
    if rank:
        ranks.leave()


def run(policy: str) -> None:
    did = work.compactor_tick() if policy == COMPACTOR else work.tick(policy)
    log.info("%s", did or f"nothing to do for {policy}, or another process does it")


if __name__ == "__main__":
    main(*sys.argv[1:])
