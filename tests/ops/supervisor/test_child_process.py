"""Child processes: restarted with back-off, stopped with their process group, never orphaned."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from burnish.ops.supervisor import child_process, run_state
from burnish.ops.supervisor import reaper as reaper_script
from burnish.ops.supervisor.child_process import ChildProcess, Reaper, ServiceSpec

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
    fd = run_state.lock(tmp_path)
    yield fd
    os.close(fd)


@pytest.fixture
def reaper(lock: int):
    handle = Reaper(lock)
    yield handle
    handle.close()


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


def until(condition, timeout_s: float = 30.0) -> bool:
    """Whether the condition became true within the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_killed_child_is_noticed_once_and_restarted_after_its_back_off(tmp_path, reaper):
    child = ChildProcess(ServiceSpec("sleeper", SLEEP), tmp_path, reaper)
    child.start()
    assert not child.exited()
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    assert until(child.exited)
    assert not child.exited()
    assert child.exit_code == -signal.SIGKILL
    assert not child.restart_due()
    assert until(child.restart_due, 2)
    child.start()
    assert not child.exited()
    child.stop()


STANDBY = [
    sys.executable,
    "-c",
    "input(); print('took over', flush=True); import time; time.sleep(60)",
]


@pytest.fixture
def replaceable(tmp_path, reaper, monkeypatch):
    monkeypatch.setattr(child_process, "STANDBY_AFTER_S", 0.0)
    child = ChildProcess(ServiceSpec("twin", SLEEP, standby_argv=STANDBY), tmp_path, reaper)
    child.start()
    child.keep_standby()
    yield child
    child.stop()


def die(child: ChildProcess) -> None:
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    assert until(child.exited)


def test_a_standby_takes_over_from_a_child_that_died(replaceable: ChildProcess):
    standby = replaceable._standby
    assert standby
    replaceable.keep_standby()
    assert replaceable._standby is standby
    die(replaceable)
    replaceable.start()
    assert replaceable.pid == standby.pid
    assert until(lambda: replaceable.log_lines() == "took over")
    replaceable.keep_standby()
    assert replaceable._standby
    assert replaceable._standby.pid != standby.pid


def test_a_standby_that_died_is_replaced_and_not_waited_for(replaceable: ChildProcess):
    first = replaceable._standby
    assert first
    first.kill()
    assert until(lambda: first.poll() is not None)
    replaceable.keep_standby()
    assert replaceable._standby
    assert replaceable._standby.pid != first.pid
    replaceable._standby.kill()
    replaceable._standby.wait()
    die(replaceable)
    replaceable.start()
    assert replaceable.pid
    assert not gone(replaceable.pid)


def test_a_standby_ends_with_its_child(replaceable: ChildProcess):
    standby = replaceable._standby
    assert standby
    replaceable.stop()
    assert gone(standby.pid)


def test_back_off_grows_and_is_capped(tmp_path, reaper):
    child = ChildProcess(ServiceSpec("failing", ["false"]), tmp_path, reaper)
    delays = []
    for _ in range(8):
        child.start()
        assert until(child.exited)
        delays.append(child.backoff())
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays[-1] == delays[-2] == 15.0


def test_stopping_a_child_ends_its_own_children_too(tmp_path, reaper):
    child = ChildProcess(ServiceSpec("family", FAMILY), tmp_path, reaper)
    child.start()
    assert until(lambda: child.log_lines().isdigit())
    child.stop()
    assert until(lambda: gone(int(child.log_lines())))


def test_a_child_that_ignores_sigterm_is_killed_after_its_stop_timeout(tmp_path, reaper):
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = ChildProcess(
        ServiceSpec("deaf", [sys.executable, "-c", deaf], stop_timeout_s=0.3), tmp_path, reaper
    )
    child.start()
    pid = child.pid
    assert pid
    assert until(lambda: child.log_lines() == "up")
    child.stop()
    assert gone(pid)


def test_no_child_survives_a_supervisor_killed_with_9_and_the_folder_is_free_again(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, time
        from pathlib import Path
        from burnish.ops.supervisor import run_state
        from burnish.ops.supervisor.child_process import ChildProcess, Reaper, ServiceSpec
        folder = Path({str(tmp_path)!r})
        reaper = Reaper(run_state.lock(folder))
        child = ChildProcess(ServiceSpec("family", {FAMILY!r}), folder, reaper)
        child.start()
        while not child.log_lines().isdigit():
            time.sleep(0.02)
        print(child.pid, child.log_lines(), flush=True)
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
    os.close(run_state.lock(tmp_path))


def test_the_reaper_outlasts_ctrl_c():
    process = subprocess.Popen([sys.executable, reaper_script.__file__], stdin=subprocess.PIPE)
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
