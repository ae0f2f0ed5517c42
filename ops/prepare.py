"""Creates or migrates the databases before the processes that share them start.

`burnish up` and the compose file run it as a job of its own: `python -m burnish.ops.prepare`.
"""

from __future__ import annotations

from burnish.learner.db import Database
from burnish.learner.settings import LearnerSettings
from burnish.serving import registry


def main() -> None:
    settings = LearnerSettings()
    database = Database(settings.database)
    database.migrate()
    database.close()
    registry.prepare(settings.registry, settings.artifacts)


if __name__ == "__main__":
    main()
