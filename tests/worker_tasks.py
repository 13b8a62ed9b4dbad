"""Tasks that the workers of test_worker.py are given, by the name of this module on their PYTHONPATH."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mailhub.delivery import workers


def leave_mark(mark: str) -> None:
    """Write the number of this process to the file `mark`, whole or not at all."""
    unfinished = Path(f"{mark}.{os.getpid()}")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(mark)


def work_until_told(mark: str) -> None:
    """As a drain does: go on until a beat says that it is time to stop, then hand back."""
    leave_mark(mark)
    while workers.beat():
        time.sleep(0.1)
    leave_mark(f"{mark}.handed-back")


def be_deaf(mark: str) -> None:
    leave_mark(mark)
    time.sleep(100)
