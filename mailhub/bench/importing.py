"""One import of a file, in a process of its own: how fast, and with how much memory.

python -m mailhub.bench.importing FILE LIST
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def peak_mb() -> float:
    found = PEAK.search(Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0


def main(path: str, key: str) -> None:
    # Django must be set up before its models are imported.
    from campaigns import imports
    from campaigns.models import Consent, MailingList

    terms = imports.Terms(MailingList.objects.get(pk=key), Consent.Basis.OPT_IN, "benchmark", "Yes, send me the tea letter.", None)
    began = time.perf_counter()
    with Path(path).open("rb") as file:
        found = imports.read(file, "benchmark.csv", terms)
    seconds = time.perf_counter() - began
    print(json.dumps({"per_s": found.rows / seconds, "peak_mb": peak_mb()}))  # noqa: T201


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mailhub.settings")
    import django

    django.setup()
    main(*sys.argv[1:])
