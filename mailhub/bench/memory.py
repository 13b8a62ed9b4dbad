"""How much memory workers take while they work. Linux only."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Seconds. What one process took at most the kernel knows itself; each look costs what is measured some processor time.
LOOK_EVERY = 2.0
# Looks at what single processes take, for each at what they take together, which costs the kernel more.
TOGETHER_EVERY = 8
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
RSS = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
MOST = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


@dataclass
class Peak:
    """In MB."""

    #: the largest process
    single: float = 0
    #: all processes, each page that they share counted once
    together: float = 0
    #: all processes, such pages counted in each
    summed: float = 0
    #: how many there were
    processes: int = 0


class Watch(threading.Thread):
    """Looks at processes and all that they have started, until the block that it is entered for ends."""

    def __init__(self, pids: Collection[int], peak: Peak) -> None:
        super().__init__(name="memory", daemon=True)
        self.pids = pids
        self.peak = peak
        self.over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        looks = 0
        while not self.over.wait(LOOK_EVERY):
            family = descendants(self.pids)
            said = [_text(pid, "status") for pid in family]
            sizes = [size for text in said if (size := _size(text, RSS))]
            self.peak.single = max(self.peak.single, *(_size(text, MOST) for text in said), 0.0)
            self.peak.summed = max(self.peak.summed, sum(sizes))
            self.peak.processes = max(self.peak.processes, len(sizes))
            if looks % TOGETHER_EVERY == 0:
                self.peak.together = max(self.peak.together, sum(_size(_text(pid, "smaps_rollup"), PSS) for pid in family))
            looks += 1


def descendants(pids: Collection[int]) -> list[int]:
    """The processes and all that they have started, as far as they live."""
    parents = dict(_parents())
    found = set(pids)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _parents() -> Iterator[tuple[int, int]]:
    for path in PROC.iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            yield int(path.name), int(fields[1])


def _text(pid: int, file: str) -> str:
    """Nothing of a process that has ended meanwhile."""
    try:
        return (PROC / str(pid) / file).read_text()
    except OSError:
        return ""


def _size(text: str, pattern: re.Pattern[str]) -> float:
    found = pattern.search(text)
    return int(found[1]) / 1024 if found else 0
