"""A worker without its cluster: hands over what is due until it is killed. Run by test_kill.py."""

from __future__ import annotations

import time

import django

django.setup()

from mailhub.delivery import engine, queue  # noqa: E402
from mailhub.relays.models import Relay  # noqa: E402


def main() -> None:
    while True:
        queue.reap()
        done = [engine.drain(relay, work) for relay in Relay.objects.all() for work in ("transactional", "bulk")]
        if not any(done):
            time.sleep(0.05)


if __name__ == "__main__":
    main()
