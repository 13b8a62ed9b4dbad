"""What became of mails, told by MailHub: each event fires django-anymail's `tracking` signal.

path("mailhub/", mailhub_client.webhooks.TrackingView.as_view())
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason, tracking
from anymail.utils import get_anymail_setting
from anymail.webhooks.base import AnymailCoreWebhookView
from django.http import HttpRequest

# A post whose time is further off, either way, is not taken (seconds).
TOLERANCE = 300

TYPES = {value for name, value in vars(EventType).items() if name.isupper()}
REASONS = {value for name, value in vars(RejectReason).items() if name.isupper()}


class TrackingView(AnymailCoreWebhookView):  # type: ignore[misc]
    """Takes what is signed with MAILHUB_WEBHOOK_SECRET and no more than five minutes old, and answers anything else with 400.

    MailHub posts again what was answered with an error, and what it had no answer for: a receiver of the signal that raises gets the
    whole post once more. An event that comes again has the same `event_id`."""

    esp_name = "MailHub"
    signal = tracking
    #: "whsec_…", or several while it is changed
    webhook_secret: str | Iterable[str] | None = None

    def __init__(self, **kwargs: Any) -> None:
        secret = get_anymail_setting("webhook_secret", esp_name=self.esp_name, kwargs=kwargs, allow_bare=True, default=None)
        if not secret:
            raise AnymailConfigurationError("Set MAILHUB_WEBHOOK_SECRET to the secret that the webhook's page in MailHub shows.")
        self.webhook_secret = [secret] if isinstance(secret, str) else list(secret)
        super().__init__(**kwargs)

    def validate_request(self, request: HttpRequest) -> None:
        if problem := unsigned(self.webhook_secret or [], request.headers, request.body):
            raise AnymailWebhookValidationFailure(f"MailHub webhook: {problem} (is MAILHUB_WEBHOOK_SECRET right?)")

    def parse_events(self, request: HttpRequest) -> list[AnymailTrackingEvent]:
        payload = json.loads(request.body)
        # A test proves that the secret is right; nothing happened to a mail.
        return [tracked(event) for event in payload["data"]] if payload["type"] == "events" else []


def tracked(event: Mapping[str, Any]) -> AnymailTrackingEvent:
    """A MailHub event in anymail's words, which it speaks itself. `esp_event` has all that was said."""
    reason = event.get("reject_reason")
    return AnymailTrackingEvent(
        event_type=event["type"] if event["type"] in TYPES else EventType.UNKNOWN,
        timestamp=datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")),
        event_id=event["event_id"],
        message_id=event["message_id"],
        recipient=event["recipient"],
        reject_reason=reason if reason is None or reason in REASONS else RejectReason.OTHER,
        description=event.get("category"),
        mta_response=event.get("mta_response"),
        tags=list(event.get("tags") or []),
        metadata=dict(event.get("metadata") or {}),
        click_url=event.get("click_url"),
        user_agent=event.get("user_agent"),
        esp_event=event,
    )


def unsigned(secrets: Iterable[str], headers: Mapping[str, str], body: bytes) -> str:
    """Why this is no Standard Webhooks post (standardwebhooks.com) signed with one of the secrets, or ""."""
    id, stamp, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id and signatures and stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        return "not signed"
    if abs(time.time() - int(stamp)) > TOLERANCE:
        return "too old, or this machine's clock is wrong"
    signed = f"{id}.{stamp}.".encode() + body
    right = [b"v1," + base64.b64encode(hmac.digest(key(secret), signed, "sha256")) for secret in secrets]
    fits = [hmac.compare_digest(one, other) for one in right for other in signatures.encode().split(b" ")]
    return "" if any(fits) else "signed with another secret"


def key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise AnymailConfigurationError("MAILHUB_WEBHOOK_SECRET is not “whsec_” with what follows it in MailHub.") from None
