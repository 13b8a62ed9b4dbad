"""What a worker process does to be supervised (mailhub/supervisor.py).

A supervisor and the processes of a cluster share a socket. Up it go signs of life, five bytes each; down it comes nothing, until the
supervisor closes its side: then the cluster is to stop. The database has no part in it, so its absence looks like nothing else.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from enum import IntEnum
from typing import Any

from django_q.cluster import Cluster
from django_q.signals import post_execute, post_execute_in_worker, pre_execute

from mailhub.lib import processes

QUEUES = ("transactional", "bulk", "maintenance")

# Names the file descriptor of the socket.
WIRE = "MAILHUB_SUPERVISOR"
# A Sign and the number of the process that gives it.
SIGN = struct.Struct("=BI")


class Sign(IntEnum):
    BEGUN = 1  # a worker begins a task
    ALIVE = 2  # a long task goes on
    ENDED = 3  # a worker has done with a task
    SETTLED = 4  # the monitor has put a task away


_wire: socket.socket | None = None


def beat() -> bool:
    """Called about once a second by a task that takes long. False: stop, hand back what you hold."""
    return _give(Sign.ALIVE) and not _stopping()


def serve() -> None:
    """Be one of the clusters that a supervisor started. Returns once the cluster runs; the process ends with it."""
    global _wire
    _wire = socket.socket(fileno=int(os.environ[WIRE]))
    processes.die_with_parent_after_fork()
    pre_execute.connect(_begun)
    post_execute_in_worker.connect(_ended)
    post_execute.connect(_settled)
    Cluster().start()


def _begun(**kwargs: Any) -> None:
    _give(Sign.BEGUN)


def _ended(**kwargs: Any) -> None:
    _give(Sign.ENDED)


def _settled(**kwargs: Any) -> None:
    _give(Sign.SETTLED)


def _give(sign: Sign) -> bool:
    """False: nobody is there to see it any more."""
    if _wire is None:  # not supervised: a test, a shell, a plain qcluster
        return True
    try:
        _wire.send(SIGN.pack(sign, os.getpid()), socket.MSG_DONTWAIT)
    except BlockingIOError:  # the supervisor is slow to look; others' signs reach it
        return True
    except OSError:
        return False
    return True


def _stopping() -> bool:
    if _wire is None:
        return False
    with suppress(BlockingIOError):
        return _wire.recv(1, socket.MSG_DONTWAIT) == b""
    return False
