"""Processes that tests start die with the test run, even if that is killed."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: A test run that starts a process, says which, and is killed by its own test.
RUN = textwrap.dedent(
    """
    import os, signal, subprocess, sys

    def test_that_is_killed(mortal):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(50)"], **quiet)
        mortal(child.pid)
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="signals and inherited descriptors are those of POSIX")
def test_a_process_dies_with_a_run_that_is_killed(tmp_path):
    import signal

    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "test_run.py").write_text(RUN, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path / "test_run.py"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    _wait_until_gone(int(done.stdout.split()[-1]))


def _wait_until_gone(number: int) -> None:
    import os
    import time

    end = time.monotonic() + 30  # it ends by itself after 50 seconds only
    while time.monotonic() < end:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        status = Path(f"/proc/{number}/stat")
        if status.exists() and status.read_text("utf-8").rpartition(")")[2].split()[0] == "Z":
            return  # nobody has taken note of its end yet
        time.sleep(0.05)
    raise AssertionError("it lives on")
