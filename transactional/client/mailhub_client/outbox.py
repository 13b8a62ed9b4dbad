"""The outbox on its way: call send() every minute, by `manage.py send_mailhub_outbox` or from a task of your own."""

from __future__ import annotations

from typing import Any

import requests

from mailhub_client.backend import EmailBackend, Part, busy
from mailhub_client.models import OutboxMail

# The key or the URL is wrong, and the mail is not: somebody will put that right.
MISLED = (301, 302, 307, 308, 401, 404)


def send(**kwargs: Any) -> tuple[int, int]:
    """Hand over what is due; returns how many MailHub took, and how many it refused for good. Those keep what it said in `problem`.

    Ends at the first that finds MailHub away: the others would, too. Safe to run in several processes at once."""
    taken = refused = 0
    with EmailBackend(**kwargs) as backend:
        while mail := OutboxMail.objects.take():
            part = Part(mail.path, mail.key, mail.body.encode())
            response, _failure = backend.attempt(part, backend.timeout)
            if response is None or busy(response, part) or response.status_code in MISLED:
                mail.postpone()
                break
            if problem := refusal(response):
                refused += 1
                mail.problem = problem
                mail.save(update_fields=["problem"])
            else:
                taken += 1
                mail.delete()
    return taken, refused


def refusal(response: requests.Response) -> str:
    """What MailHub found wrong, with one mail of a batch or with all; "" when it took everything."""
    if response.status_code != 202:
        return f"{response.status_code}: {response.text[:2000]}"
    lost = [result["problem"] for result in response.json().get("results", []) if result.get("problem")]
    return "\n".join(f"{problem['title']}: {problem['detail']}" for problem in lost)
