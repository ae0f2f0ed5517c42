"""Passwords of the services that `burnish up` starts: local users can reach loopback ports.

Each is made once, and kept in a file of the data folder that only its owner may read. They reach
processes by environment or configuration file, never by command line.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from burnish.feedback.keyring import write_private

KAFKA_USER = MLFLOW_USER = "burnish"
MLFLOW_VARIABLE = "BURNISH_MLFLOW_PASSWORD"


def kafka_password(kafka_dir: Path) -> str:
    return _made_once(kafka_dir / "password")


def redis_password(data_dir: Path) -> str:
    return _made_once(data_dir / "redis" / "password")


def mlflow_password(data_dir: Path) -> str:
    """BURNISH_MLFLOW_PASSWORD, or the data folder's."""
    return os.environ.get(MLFLOW_VARIABLE) or _made_once(mlflow_password_file(data_dir))


def mlflow_password_file(data_dir: Path) -> Path:
    return data_dir / "mlflow" / "password"


def _made_once(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(24).encode())
    return path.read_text().strip()
