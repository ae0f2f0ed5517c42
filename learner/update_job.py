"""What an update's job runs: one tick of one policy, on one rank or several.

    python -m burnish.learner.update_job POLICY
    torchrun --nproc-per-node=4 -m burnish.learner.update_job POLICY

Under torchrun the first rank runs the tick and trains through all of them.
"""

from __future__ import annotations

import logging
import os
import sys

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


def run(policy: str) -> None:
    log.info("%s", work.tick(policy) or f"another process updates {policy}")


if __name__ == "__main__":
    main(*sys.argv[1:])
