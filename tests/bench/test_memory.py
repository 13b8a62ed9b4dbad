from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mailhub.bench.memory import Peak, Watch, descendants
from tests.installation import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A child that takes 60 MB and has a child of its own that takes little.
FAMILY = """
import subprocess, sys
taken = bytearray(60 << 20)
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def test_the_largest_process_and_all_of_them_together_are_found() -> None:
    peak = Peak()
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdin and child.stdout
        grandchild = int(child.stdout.readline())
        assert descendants([child.pid]) == sorted([child.pid, grandchild])
        assert os.getpid() not in descendants([child.pid])
        with Watch([child.pid], peak):
            until(lambda: peak.together)
        child.stdin.write(b"\n")
    assert 60 < peak.single < 100
    assert peak.processes == 2
    assert 60 < peak.together < peak.summed
