"""Several workers share the stream's partitions: each takes those that no other one holds.

A lease for each partition, held while it is read; a worker that comes upon a held one goes on to the
next. So one more worker of the queue `intake` is all that it takes to share the work, and one that died
holds its partition for a few seconds. Correctness is the offset's (consume.py): leases only save work.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from burnish.feedback.contract import TOPICS
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.telemetry.trail import Trail
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.lease import Lease, LeaseHeld, LeaseLost
from burnish.learner.ticks import Tick, intake_tick

SECONDS = 5.0  # of one tick, shared among its partitions


def lease_name(partition: int) -> str:
    return f"intake:{partition}"


def consume_shared(
    database: Database,
    stream: EventStream,
    lease_of: Callable[[str], Lease],
    *,
    trail: Trail | None = None,
    seconds: float = SECONDS,
) -> Tick | None:
    """Consume every partition that no other worker holds; None when nothing was there.

    Raises StreamUnavailable; whatever was committed before stays.
    """
    began, counts = time.monotonic(), Counter()
    partitions = sorted({p for topic in TOPICS for p in stream.partitions(topic)})
    random.shuffle(partitions)  # workers that begin together part ways
    for done, partition in enumerate(partitions):
        left = seconds - (time.monotonic() - began)
        share = max(left, 0.0) / (len(partitions) - done)
        try:
            with lease_of(lease_name(partition)) as lease:
                tick = consume(
                    database, stream, lease, partitions=[partition], seconds=share, trail=trail
                )
        except (LeaseHeld, LeaseLost):  # it is in other hands
            continue
        counts.update(tick.counts if tick else {})
    return intake_tick(dict(counts), time.monotonic() - began) if counts else None
