"""`burnish erase`: an end user's data out of the experience database, and which versions learnt from it.

Left out: memory, which `POST /v1/memory/forget` erases for the tenant whose key asks, and the weights.
"""

from __future__ import annotations

import time

from burnish.learner.database import Database
from burnish.learner.intake.erasure import erase_user
from burnish.learner.settings import LearnerSettings
from burnish.ops.commands.client import ServiceError
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError


def run(tenant: str, user: str, console: Console) -> None:
    """Raises ServiceError where the database does not answer."""
    database = Database(LearnerSettings().database)
    try:
        database.migrate()
        with database.write() as session:
            erased = erase_user(session, tenant, user, time.time())
    except SQLAlchemyError as error:
        raise ServiceError(f"the experience database cannot be reached: {error}") from error
    finally:
        database.close()
    console.print(
        f"erased {erased.interactions} interactions and {erased.judgements} judgements",
        highlight=False,
    )
    for policy, versions in erased.versions.items():
        told = ", ".join(map(str, versions))
        console.print(f"{policy}: versions {told} have learnt from them", highlight=False)
