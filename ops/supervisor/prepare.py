"""Creates or migrates the databases, before the processes that share them start.

`burnish up` and the compose file run it as a job of its own:
`python -m burnish.ops.supervisor.prepare`. It writes a marker file that fingerprints what it
prepared, so that later starts need not wait for MLflow's import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from burnish.feedback.masking import mask_logs

MARKER = "prepared"
DATABASE_VARIABLES = ("BURNISH_DATABASE_URL", "BURNISH_MLFLOW_URI")


def main() -> None:
    from burnish.learner.database import Database
    from burnish.learner.settings import LearnerSettings
    from burnish.serving import registry

    settings = LearnerSettings()
    database = Database(settings.database)
    database.migrate()
    database.close()
    registry.prepare(settings.registry, settings.mlflow_artifacts)
    env = {"BURNISH_DATABASE_URL": settings.database, "BURNISH_MLFLOW_URI": settings.registry}
    (settings.data_dir / MARKER).write_text(_fingerprint(env))


def is_prepared(data_dir: Path, env: Mapping[str, str]) -> bool:
    """Whether these databases were prepared for this code, and still exist."""
    try:
        prepared = (data_dir / MARKER).read_text()
    except FileNotFoundError:
        return False
    files = [
        env[name].removeprefix("sqlite:///") for name in DATABASE_VARIABLES if "sqlite" in env[name]
    ]
    return prepared == _fingerprint(env) and all(Path(file).exists() for file in files)


def _fingerprint(env: Mapping[str, str]) -> str:
    """SHA-256 of database URLs, migrations and MLflow's version; hashed since URLs hold passwords."""
    from burnish.learner import migrations

    (folder,) = migrations.__path__
    revisions = sorted(path.name for path in Path(folder, "versions").glob("*.py"))
    parts = [*(env[name] for name in DATABASE_VARIABLES), *revisions, version("mlflow")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    mask_logs()
    main()
