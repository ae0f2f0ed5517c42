"""Appends to a spool as fast as it can and prints each id once it is acknowledged.

Run by test_spool.py, which kills it in the middle.
"""

import asyncio
import os
import sys

from burnish.feedback.events import FeedbackEvent
from burnish.feedback.spool.spool import Spool


async def main() -> None:
    spool = Spool(sys.argv[1])

    async def client(number: int) -> None:
        count = 0
        while True:
            event = FeedbackEvent(
                id=f"f-{os.getpid()}-{number}-{count}", tenant="acme", user=f"user-{number}",
                interaction_id=f"i-{number}-{count}", name="comment", value="x" * 500,
            )  # fmt: skip
            await spool.append(event.topic, event.key, event)
            # One write per line: a kill never tears it.
            os.write(1, f"{event.id}\n".encode())
            count += 1

    await asyncio.gather(*(client(number) for number in range(16)))


asyncio.run(main())
