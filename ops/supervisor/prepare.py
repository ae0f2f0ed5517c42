"""Creates or migrates the databases before the processes that share them start.

`burnish up` and the compose file run it as a job of its own: `python -m burnish.ops.supervisor.prepare`. It
leaves a note of what it prepared, so that later starts need not wait for MLflow's import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

NOTE = "prepared"
WHERE = ("BURNISH_DATABASE_URL", "BURNISH_MLFLOW_URI")


def main() -> None:
    from burnish.learner.database import Database
    from burnish.learner.settings import LearnerSettings
    from burnish.serving import registry

    settings = LearnerSettings()
    database = Database(settings.database)
    database.migrate()
    database.close()
    registry.prepare(settings.registry, settings.mlflow_artifacts)
    where = {"BURNISH_DATABASE_URL": settings.database, "BURNISH_MLFLOW_URI": settings.registry}
    (settings.data_dir / NOTE).write_text(_what(where))


def is_done(data_dir: Path, env: Mapping[str, str]) -> bool:
    """Whether these very databases were prepared for this code, and are still there."""
    try:
        done = (data_dir / NOTE).read_text()
    except FileNotFoundError:
        return False
    files = [env[name].removeprefix("sqlite:///") for name in WHERE if "sqlite" in env[name]]
    return done == _what(env) and all(Path(file).exists() for file in files)


def _what(env: Mapping[str, str]) -> str:
    """A hash (URLs hold passwords) over where the databases are and which schema they need."""
    from burnish.learner import migrations

    (folder,) = migrations.__path__
    steps = sorted(path.name for path in Path(folder, "versions").glob("*.py"))
    told = "\n".join([*(env[name] for name in WHERE), *steps, version("mlflow")])
    return hashlib.sha256(told.encode()).hexdigest()


if __name__ == "__main__":
    main()
