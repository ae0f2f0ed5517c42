"""`burnish up --observe`: a Prometheus beside the service, where it is installed.

It reads what serving and the intake worker tell, and checks the rules of ops/observe. Left out:
Grafana, which takes the dashboards of ops/observe by provisioning or by hand, and an Alertmanager.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from burnish.feedback.keyring import write_private
from burnish.ops.settings import SettingsError

OBSERVE = Path(str(files("burnish.ops"))) / "observe"
PORT = 9090
LEARNER_PORT = 9464  # the port of OpenTelemetry's own exporter for Prometheus
RETENTION = "15d"


def binary() -> str:
    """Raises SettingsError where Prometheus is not installed."""
    found = shutil.which("prometheus")
    if found is None:
        raise SettingsError(
            "--observe needs Prometheus, which is not on PATH (Debian: apt-get install prometheus)"
        )
    return found


def prepare(folder: Path, port: int, targets: Mapping[str, str], key: str | None) -> list[str]:
    """Write its configuration; the command that runs it. `targets`: job -> host:port; `key`: an API
    key with the scope `admin`, needed once the service has keys. Raises SettingsError."""
    command = binary()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if key is not None:
        write_private(folder / "key", key.encode())
    jobs = [
        {
            "job_name": job,
            "static_configs": [{"targets": [target]}],
            **({"authorization": {"credentials_file": str(folder / "key")}} if key else {}),
        }
        for job, target in targets.items()
    ]
    config = folder / "prometheus.yml"
    config.write_text(  # JSON is YAML
        json.dumps(
            {
                "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
                "rule_files": [str(OBSERVE / "alerts.yml")],
                "scrape_configs": jobs,
            },
            indent=1,
        )
    )
    return [
        command,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
