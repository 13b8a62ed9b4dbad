"""Child processes that never outlive us, not even when we are killed with SIGKILL."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, the process that started it, ends. Linux only; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above took effect
        os._exit(1)


def die_with_parent_after_fork() -> None:
    """Do the same for everything that this process forks from now on, and for what that forks."""
    parent = 0

    def remember() -> None:
        nonlocal parent
        parent = os.getpid()

    os.register_at_fork(before=remember, after_in_child=lambda: die_with(parent))


class Group:
    """A command in a process group of its own, so that Ctrl-C reaches only us and SIGKILL reaches all that it started.

    Start it from the main thread: the kernel takes the end of the starting thread for the end of the parent."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        """What it says goes to `output`, or else to where ours goes."""
        # By way of _launch() below: work between fork and exec (preexec_fn) may deadlock where there are threads.
        launcher = [sys.executable, "-P", __file__, str(os.getpid())]
        self.process = subprocess.Popen(  # noqa: S603  our own commands
            [*launcher, *command],
            env=env,
            pass_fds=keep_open,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
        self.pid = self.process.pid

    @property
    def ended(self) -> bool:
        """The command has ended; what it started may still run, until reap()."""
        # Not poll(), which would free the number of the group.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.process.returncode is not None or os.waitid(os.P_PID, self.pid, options) is not None

    def stop(self) -> None:
        """Ask the command, not what it started, to end."""
        if not self.ended:
            os.kill(self.pid, signal.SIGTERM)

    def reap(self) -> int:
        """Kill what is left of the group; returns the command's exit code (negative: ended by that signal)."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: only zombies are left (macOS)
                os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait()

    def holds(self, pid: int) -> bool:
        """`pid` is a process of this group."""
        try:
            return os.getpgid(pid) == self.pid
        except ProcessLookupError:
            return False


def _launch() -> None:
    """PARENT COMMAND...: become COMMAND, which dies with PARENT. The kernel keeps that wish across exec."""
    die_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    _launch()
