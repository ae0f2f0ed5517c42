"""Child processes: restarted when they die, stopped whole, never orphaned."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from burnish.ops.supervisor import guard, runfile
from burnish.ops.supervisor.children import Child, Guard, Spec
from burnish.ops.supervisor.logtail import LogTail
from burnish.ops.supervisor.runfile import FolderInUse, RunFile

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# A process with a child of its own, like Celery's worker or `burnish kafka`.
FAMILY = [
    sys.executable,
    "-c",
    "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True);"
    "import time; time.sleep(60)",
]


@pytest.fixture
def lock(tmp_path: Path):
    fd = runfile.lock(tmp_path)
    yield fd
    os.close(fd)


@pytest.fixture
def guarded(lock: int):
    watch = Guard(lock)
    yield watch
    watch.close()


def gone(pid: int) -> bool:
    """Ended, or a zombie that nobody has collected yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def ignores(pid: int, sig: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask.split()[1], 16) & 1 << (sig - 1))


def until(condition, patience: float = 30.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_killed_child_is_noticed_once_and_is_due_again_after_its_back_off(tmp_path, guarded):
    child = Child(Spec("sleeper", SLEEP), tmp_path, guarded)
    child.start()
    assert not child.died()
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    assert until(child.died)
    assert not child.died()
    assert child.exit_code == -signal.SIGKILL
    assert not child.due()
    assert until(child.due, 2)
    child.start()
    assert not child.died()
    child.stop()


def test_back_off_grows_and_is_capped(tmp_path, guarded):
    child = Child(Spec("failing", ["false"]), tmp_path, guarded)
    waits = []
    for _ in range(8):
        child.start()
        assert until(child.died)
        waits.append(child.backoff())
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits[-1] == waits[-2] == 15.0


def test_stopping_a_child_ends_its_own_children_too(tmp_path, guarded):
    child = Child(Spec("family", FAMILY), tmp_path, guarded)
    child.start()
    assert until(lambda: child.last_words().isdigit())
    child.stop()
    assert until(lambda: gone(int(child.last_words())))


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path, guarded):
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child(Spec("deaf", [sys.executable, "-c", deaf], grace=0.3), tmp_path, guarded)
    child.start()
    pid = child.pid
    assert pid
    assert until(lambda: child.last_words() == "up")
    child.stop()
    assert gone(pid)


def test_no_child_survives_a_supervisor_killed_with_9_and_the_folder_is_free_again(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, time
        from pathlib import Path
        from burnish.ops.supervisor import runfile
        from burnish.ops.supervisor.children import Child, Guard, Spec
        folder = Path({str(tmp_path)!r})
        guard = Guard(runfile.lock(folder))
        child = Child(Spec("family", {FAMILY!r}), folder, guard)
        child.start()
        while not child.last_words().isdigit():
            time.sleep(0.02)
        print(child.pid, child.last_words(), flush=True)
        time.sleep(60)
        """
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    assert len(pids) == 2
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    assert until(lambda: all(gone(pid) for pid in pids))
    os.close(runfile.lock(tmp_path))


def test_two_services_never_share_a_data_folder(tmp_path, lock):
    RunFile(pid=os.getpid(), url="http://127.0.0.1:1").write(tmp_path)
    with pytest.raises(FolderInUse, match="is in use"):
        runfile.lock(tmp_path)


def test_a_stale_run_file_is_not_a_running_service(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    RunFile(pid=dead.pid, url="http://127.0.0.1:1").write(tmp_path)
    assert runfile.read(tmp_path)
    assert runfile.running(tmp_path) is None


def test_the_guard_outlasts_ctrl_c():
    process = subprocess.Popen([sys.executable, guard.__file__], stdin=subprocess.PIPE)
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert process.stdin
    process.stdin.write(f"+{sleeper.pid}\n".encode())
    process.stdin.flush()
    assert until(lambda: ignores(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    assert sleeper.wait(30) == -signal.SIGTERM
    assert process.wait(30) == 0


def test_warnings_in_logs_are_repeated_once_and_the_rest_is_left_there(tmp_path):
    log = tmp_path / "serving.log"
    log.write_text("ERROR from an earlier run\n")
    tail = LogTail({"serving": log})
    with log.open("a") as file:
        file.write("INFO all is well\nWARNING lag is 12 events\nWARNING lag is 15 events\nERROR ha")
    assert tail.loud_lines() == [("serving", "WARNING lag is 12 events")]
    with log.open("a") as file:
        file.write("lf a line\n")
    assert tail.loud_lines() == [("serving", "ERROR half a line")]
