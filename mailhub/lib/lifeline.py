"""What ties the processes of a cluster of workers to their supervisor: a socket that they share.

Up it go signs of life, a few bytes each; down it comes nothing, until the supervisor closes its side: then the cluster is to stop.
The database has no part in it, so nothing else looks like its absence.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum

# The environment variable that names the file descriptor of the cluster's end.
DESCRIPTOR = "MAILHUB_LIFELINE"


class Sign(IntEnum):
    # With the number of the process that gives it:
    BEGUN = 1  # a worker begins a task
    ALIVE = 2  # a long task goes on
    ENDED = 3  # a worker has done with a task
    SETTLED = 4  # the monitor has put a task away
    # With the key of a row in the broker's table:
    TAKEN = 5
    DELETED = 6


SIGN = struct.Struct("=BQ")

_line: socket.socket | None = None


def hold() -> None:
    """Take hold of the end that the environment names; what is forked from now on holds it too."""
    global _line
    _line = socket.socket(fileno=int(os.environ[DESCRIPTOR]))


def give(sign: Sign, number: int = 0) -> None:
    """Without a supervisor (a test, a shell, a plain qcluster) nothing happens."""
    if _line is not None:
        # It may be slow to look (BlockingIOError), or gone; others' signs, or none, will tell it enough.
        with suppress(OSError):
            _line.send(SIGN.pack(sign, number or os.getpid()), socket.MSG_DONTWAIT)


def cut() -> bool:
    """The supervisor wants an end."""
    if _line is None:
        return False
    try:
        return _line.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class SupervisorsEnd:
    """Signs as they arrive."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        #: a sign of which not all has come
        self.part = b""

    def signs(self) -> Iterator[tuple[int, int]]:
        try:
            data = self.part + self.ours.recv(1 << 16)
        except OSError:
            return
        whole = len(data) - len(data) % SIGN.size
        self.part = data[whole:]
        yield from SIGN.iter_unpack(data[:whole])

    def cut(self) -> None:
        with suppress(OSError):
            self.ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.ours.close()
