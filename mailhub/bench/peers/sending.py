"""One peer's round: python -m mailhub.bench.peers.sending django|post_office --messages 4000

Prints a line of JSON. Words are filled in before the clock starts, and nothing is signed: more than the peers are asked for elsewhere is
left to them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import django

from mailhub.bench import words

PROCESSES = 2


def mails(count: int) -> Iterator[tuple[str, str, str, str]]:
    """Recipient, subject, text and HTML."""
    subject, text, html = (words.plain(part) for part in (words.SUBJECT, words.TEXT, words.HTML))
    for number in range(count):
        values = {"name": f"Reader {number}", "city": "Kyoto", "unsubscribe_url": f"https://hub.example/u/{number:032x}"}
        yield f"reader{number}@example.net", subject.format(**values), text.format(**values), html.format(**values)


def through_django(count: int) -> float:
    """Django's SMTP backend in a loop, over one connection; returns the seconds it took."""
    from django.core.mail import EmailMultiAlternatives, get_connection

    waiting = list(mails(count))
    began = time.perf_counter()
    connection = get_connection("django.core.mail.backends.smtp.EmailBackend")
    connection.open()
    for address, subject, text, html in waiting:
        mail = EmailMultiAlternatives(subject, text, "Tea Shop <news@shop.example>", [address])
        mail.attach_alternative(html, "text/html")
        connection.send_messages([mail])
    connection.close()
    return time.perf_counter() - began


def through_post_office(count: int) -> float:
    """django-post_office's queue, emptied by two processes; returns the seconds it took."""
    from django.core.management import call_command
    from post_office.models import STATUS, Email

    call_command("migrate", verbosity=0, interactive=False)
    Email.objects.all().delete()
    Email.objects.bulk_create(
        Email(
            from_email="Tea Shop <news@shop.example>", to=[address], subject=subject, message=text, html_message=html,
            status=STATUS.queued, priority=2,
        )
        for address, subject, text, html in mails(count)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        call_command("send_queued_mail", processes=PROCESSES, lockfile=str(Path(folder) / "lock"), log_level=1)
        seconds = time.perf_counter() - began
    sent = Email.objects.filter(status=STATUS.sent).count()
    if sent != count:
        sys.exit(f"{sent} of {count} mails were sent.")
    return seconds


PEERS = {"django": through_django, "post_office": through_post_office}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--messages", type=int, default=4_000)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "mailhub.bench.peers.settings"
    django.setup()
    sys.stdout.write(json.dumps({"per_s": options.messages / PEERS[options.peer](options.messages)}) + "\n")


if __name__ == "__main__":
    main()
