"""A Django site of somebody else's, in a process of its own: it knows MailHub's client and nothing else of ours.

Its settings are two and what a test adds. It does what it is told on standard input, a JSON object a line, and answers in the same way; it
serves its webhook view meanwhile."""

# ruff: noqa: E402  the settings come first
from __future__ import annotations

import base64
import json
import os
import sys
import threading
import traceback
from io import StringIO
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="sibling",
    DEBUG=True,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["mailhub_client"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SIBLING_DATABASE"]}},
    USE_TZ=True,
    DEFAULT_FROM_EMAIL="shop@example.com",
    EMAIL_BACKEND="mailhub_client.EmailBackend",
)
django.setup()

from anymail.exceptions import AnymailError
from anymail.message import AnymailMessage
from anymail.signals import tracking
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.urls import path
from mailhub_client import backend, webhooks
from mailhub_client.models import OutboxMail

backend.PAUSES = (0.01, 0.01)
urlpatterns = [path("mailhub/", lambda request: webhooks.TrackingView.as_view()(request))]
told: list[dict[str, Any]] = []


def hear(sender: Any, event: Any, esp_name: str, **_kwargs: Any) -> None:
    if event.recipient.startswith("trouble"):
        raise RuntimeError("the receiver of the signal fails")
    names = ("event_type", "event_id", "message_id", "recipient", "reject_reason", "mta_response", "tags", "metadata", "click_url")
    told.append({"esp": esp_name, "timestamp": event.timestamp.isoformat(), **{name: getattr(event, name) for name in names}})


tracking.connect(hear)


def message(asked: dict[str, Any]) -> AnymailMessage:
    files, alternatives, picture = asked.pop("files", []), asked.pop("alternatives", []), asked.pop("picture", "")
    made = AnymailMessage(**asked)
    for name, content, media_type in files:
        made.attach(name, base64.b64decode(content), media_type)
    for content, media_type in alternatives:
        made.attach_alternative(content, media_type)
    if picture:
        cid = made.attach_inline_image(base64.b64decode(picture), "logo.png", "png")
        made.attach_alternative(f'<p>Hello <img src="cid:{cid}"></p>', "text/html")
    return made


def send(asked: dict[str, Any], times: int = 1, fail_silently: bool = False) -> dict[str, Any]:
    made = message(asked)
    answer: dict[str, Any] = {"sent": [], "error": ""}
    for _time in range(times):
        try:
            answer["sent"].append(made.send(fail_silently=fail_silently))
        except (AnymailError, ImproperlyConfigured) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
    answer["recipients"] = {address: [status.message_id, status.status] for address, status in made.anymail_status.recipients.items()}
    return answer


def deliver() -> dict[str, Any]:
    out = StringIO()
    call_command("send_mailhub_outbox", stdout=out)
    return {"said": out.getvalue().strip()}


def kept() -> list[list[str]]:
    return [[mail.path, mail.problem] for mail in OutboxMail.objects.order_by("pk")]


def due() -> None:
    from django.utils import timezone

    OutboxMail.objects.update(next_attempt_at=timezone.now())


def clear() -> None:
    told.clear()
    OutboxMail.objects.all().delete()


def found() -> list[str]:
    return sorted(problem.id for problem in checks.run_checks() if problem.id.startswith("mailhub."))


DEEDS: dict[str, Any] = {"send": send, "deliver": deliver, "kept": kept, "due": due, "clear": clear, "found": found, "told": lambda: told}


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps(server.server_port), flush=True)  # noqa: T201
    for line in sys.stdin:
        asked = json.loads(line)
        # In this thread and in the server's: override_settings() is the process's.
        override_settings(**asked["settings"]).enable()
        try:
            answer = DEEDS[asked["deed"]](**asked["arguments"])
        except Exception:  # noqa: BLE001  the test will show it
            answer = {"failure": traceback.format_exc()}
        print(json.dumps(answer), flush=True)  # noqa: T201
