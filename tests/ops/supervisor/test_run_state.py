"""run.json and the data folder's lock: who owns a folder, and whether its service is alive."""

import os
import subprocess

import pytest
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.run_state import FolderInUse, RunState


def test_two_services_never_share_a_data_folder(tmp_path):
    held = run_state.lock(tmp_path)
    RunState(pid=os.getpid(), url="http://127.0.0.1:1").write(tmp_path)
    with pytest.raises(FolderInUse, match="is in use"):
        run_state.lock(tmp_path)
    os.close(held)


def test_a_stale_run_file_is_not_a_running_service(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    RunState(pid=dead.pid, url="http://127.0.0.1:1").write(tmp_path)
    assert run_state.read(tmp_path)
    assert run_state.running(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"pid": "x", "url": "u"}'])
def test_a_damaged_run_file_is_no_running_service(tmp_path, content: bytes):
    (tmp_path / run_state.FILE_NAME).write_bytes(content)
    assert run_state.read(tmp_path) is None
    assert run_state.running(tmp_path) is None
