"""The services that call back, a row each: how they prove that it is they, what they call a reason, and what staff do there.

Their events are read by django-anymail. What a refusal means is told by lib/replies: by the reply that the service quotes, else by its own
name for the reason ("brevo/hard_bounce"), which stands in lib/replies/tables/labels.toml.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

from anymail.exceptions import AnymailWarning
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from mailhub.feedback import signatures, topics
from mailhub.feedback.signatures import Posted, Verify

# ------------------------------------------------------------------------------------------------------------------------ schemes


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a service proves who it is."""

    verify: Verify
    #: what staff enter, by its name among the secrets -> (label, where it stands)
    fields: Mapping[str, tuple[Any, Any]]
    #: instead we make a password, which is part of the address
    password: bool = False


PASSWORD = Scheme(signatures.password, {}, password=True)
SIGNING_KEY = _("signing key")


def keyed(verify: Verify, where: str | Promise, label: str | Promise = SIGNING_KEY, name: str = "signing_key") -> Scheme:
    return Scheme(verify, {name: (label, where)})


# ----------------------------------------------------------------------------------------------------------------------- reading


def dig(found: Any, *path: str | int) -> Any:
    """What stands there in a JSON document; None where nothing does."""
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def word(*path: str | int) -> Callable[[Any], str]:
    return lambda event: str(dig(event, *path) or "")


def no_word(event: Any) -> str:
    return ""


def never(event: Any) -> bool:
    return False


def as_told(type: str, event: Any) -> str:
    return type


def whole(body: bytes) -> Iterator[bytes]:
    yield body


def listed(body: bytes) -> Iterator[bytes]:
    """Each event of a list alone."""
    found = json.loads(body)
    for event in found if isinstance(found, list) else [found]:
        yield json.dumps([event]).encode()


def listed_in_form(body: bytes) -> Iterator[bytes]:
    for piece in listed(signatures.form(body).get("mandrill_events", "[]").encode()):
        yield urlencode({"mandrill_events": piece.decode()}).encode()


def listed_as_events(body: bytes) -> Iterator[bytes]:
    for event in json.loads(body).get("events", []):
        yield json.dumps({"events": [event]}).encode()


def listed_by_user(body: bytes) -> Iterator[bytes]:
    found = json.loads(body)
    for user in found.get("events_by_user", [])[:1]:
        for event in user.get("events", []):
            yield json.dumps({**found, "events_by_user": [{**user, "events": [event]}]}).encode()


class Request:
    """As much of a request as anymail's parsers look at."""

    encoding = "utf-8"

    def __init__(self, posted: Posted) -> None:
        self.body = posted.body
        self.content_type = posted.content_type
        self.headers = posted.headers
        self.META = posted.meta
        self.POST = signatures.form(posted.body) if posted.content_type == "application/x-www-form-urlencoded" else {}


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    #: anymail's view, for its parser
    view: str
    scheme: Scheme
    steps: Sequence[Promise]
    #: its own name for why a mail came back; "" where it says none
    reason: Callable[[Any], str] = no_word
    #: the enhanced status code, where it stands apart from the reply
    status: Callable[[Any], str] = no_word
    #: the reply that it quotes, where anymail tells another text or none
    reply: Callable[[Any], str] = no_word
    #: header fields of the mail, where it repeats them
    headers: Callable[[Any], Any] = no_word
    #: the mail's own Message-ID, where anymail tells the service's
    message_id: Callable[[Any], str] = no_word
    #: it tells which mail an event is about also of mail that it was handed by SMTP: by the Message-ID, or by our mark (relays/marks.py)
    knows_smtp: bool = True
    #: a machine opened it, or followed the link
    by_machine: Callable[[Any], bool] = never
    #: its events one by one, for a body of which one cannot be read
    pieces: Callable[[bytes], Iterator[bytes]] = whole
    #: anymail's type and the event -> ours, where that means another thing; "" for none that is recorded
    type_of: Callable[[str, Any], str] = as_told
    #: what anymail's view wants to be made with, besides
    options: Mapping[str, Any] = field(default_factory=dict)

    def events(self, posted: Posted) -> tuple[list[Any], int]:
        """Anymail's events, and how many more could not be read."""
        try:
            return parse(self, posted), 0
        except Exception:  # noqa: BLE001  anymail raises whatever there is: the next lines find out which event it was
            return self._one_by_one(posted)

    def _one_by_one(self, posted: Posted) -> tuple[list[Any], int]:
        found: list[Any] = []
        unread = 0
        try:
            pieces = list(self.pieces(posted.body))
        except Exception:  # noqa: BLE001  that is no list of events
            return [], 1
        for piece in pieces:
            try:
                found += parse(self, Posted(piece, posted.content_type, posted.meta))
            except Exception:  # noqa: BLE001  the same
                unread += 1
        return found, unread


def parse(caller: Caller, posted: Posted) -> list[Any]:
    # One of them remembers what it read last.
    return list(copy(view_of(caller.view, tuple(caller.options.items()))).parse_events(Request(posted)))


@cache
def view_of(view: str, options: tuple[tuple[str, Any], ...]) -> Any:
    with warnings.catch_warnings():
        # Anymail tests its SendGrid view no longer; our own tests do. Signatures are verified here.
        warnings.simplefilter("ignore", AnymailWarning)
        return import_string(f"anymail.webhooks.{view}")(webhook_secret="-:-", **dict(options))  # noqa: S106


# --------------------------------------------------------------------------------------------------------------------- the table

PASTE = _("Paste the address above. The password is part of it.")
ALL = _("Choose all events about delivery, bounces, complaints and unsubscribing. Opens and clicks only if the service counts them.")
COPY_KEY = _("Copy the key that the service shows, and enter it below: until then every callback is refused.")


def ses_reason(event: Any) -> str:
    return f"{dig(event, 'bounce', 'bounceType') or ''}/{dig(event, 'bounce', 'bounceSubType') or ''}" if dig(event, "bounce") else ""


def ses_type(type: str, event: Any) -> str:
    if dig(event, "eventType") == "DeliveryDelay":
        return "deferred"
    # The reader took it out of the junk.
    return "" if dig(event, "complaint", "complaintFeedbackType") == "not-spam" else type


def postmark_type(type: str, event: Any) -> str:
    """Its "spam notification" is a filter's refusal; what a reader says is a "spam complaint"."""
    return "bounced" if dig(event, "Type") == "SpamNotification" else type


def resend_type(type: str, event: Any) -> str:
    return "failed" if dig(event, "type") == "email.failed" else type


def sendgrid_reason(event: Any) -> str:
    kinds = (dig(event, "bounce_classification"), dig(event, "type"), dig(event, "reason") if dig(event, "event") == "dropped" else "")
    return next((str(kind) for kind in kinds if kind), "")


def mailgun_reason(event: Any) -> str:
    reason, severity = dig(event, "event-data", "reason"), dig(event, "event-data", "severity")
    return str(reason if str(reason or "").startswith("suppress-") else severity or "")


def sparkpost_event(event: Any) -> Any:
    """Whichever class of event it is in."""
    return next(iter((dig(event, "msys") or {}).values()), {})


def postal_message_id(event: Any) -> str:
    """Without its brackets; what anymail takes for one is Postal's number."""
    return str(dig(event, "payload", "message", "message_id") or dig(event, "payload", "original_message", "message_id") or "")


CALLERS: dict[str, Caller] = {
    "amazon_ses": Caller(
        "Amazon SES",
        "amazon_ses.AmazonSESTrackingWebhookView",
        keyed(topics.verify, _("Its ARN, as SNS shows it: arn:aws:sns:ap-northeast-1:123456789012:mailhub."), _("topic"), "topic"),
        (
            _("Make a standard topic in Amazon SNS and enter its ARN below."),
            _("Subscribe the address above to it by HTTPS, without raw message delivery. MailHub confirms the subscription by itself."),
            _("In SES add the topic as event destination of the configuration set that this relay names, or as feedback of the identity."),
            _("For feedback of an identity, tick “include original headers”: they tell which mail it is about."),
        ),
        reason=ses_reason,
        status=word("bounce", "bouncedRecipients", 0, "status"),
        reply=word("deliveryDelay", "delayedRecipients", 0, "diagnosticCode"),
        type_of=ses_type,
        headers=lambda event: dig(event, "mail", "headers"),
        # We confirm subscriptions ourselves, once they are verified.
        options={"auto_confirm_sns_subscriptions": False},
    ),
    "brevo": Caller(
        "Brevo",
        "brevo.BrevoTrackingWebhookView",
        PASSWORD,
        (_("In Brevo open Transactional, Settings, Webhook, and add one."), PASTE, ALL),
        reason=word("event"),
        by_machine=lambda event: dig(event, "event") in ("proxy_open", "unique_proxy_open"),
    ),
    "mailersend": Caller(
        "MailerSend",
        "mailersend.MailerSendTrackingWebhookView",
        keyed(signatures.body_hmac("Signature"), _("“Signing secret”, on the webhook's page at MailerSend.")),
        (_("In MailerSend open the domain, Webhooks, and add one with the address above."), ALL, COPY_KEY),
        reason=word("data", "type"),
        # Anymail prefers what the service makes of it for people.
        reply=word("data", "morph", "reason"),
        knows_smtp=False,
        options={"signing_secret": "-"},
    ),
    "mailgun": Caller(
        "Mailgun",
        "mailgun.MailgunTrackingWebhookView",
        keyed(signatures.mailgun, _("“HTTP webhook signing key”, in Mailgun's settings of the account. It is not the API key.")),
        (_("In Mailgun open Sending, Webhooks, choose the domain, and add the address above for each event."), ALL, COPY_KEY),
        reason=mailgun_reason,
        status=word("event-data", "delivery-status", "enhanced-code"),
        by_machine=lambda event: bool(dig(event, "event-data", "client-info", "bot")),
        options={"webhook_signing_key": "-"},
    ),
    "mailjet": Caller(
        "Mailjet",
        "mailjet.MailjetTrackingWebhookView",
        PASSWORD,
        (_("In Mailjet open Account settings, Event notifications."), PASTE, ALL, _("Tick “group events”: it saves both sides work.")),
        reason=word("error"),
        reply=word("comment"),
        pieces=listed,
    ),
    "mailtrap": Caller(
        "Mailtrap",
        "mailtrap.MailtrapTrackingWebhookView",
        keyed(signatures.body_hmac("Mailtrap-Signature"), _("“Signature key”, on the webhook's page at Mailtrap.")),
        (_("In Mailtrap open Settings, Webhooks, and add one with the address above, in the format JSON."), ALL, COPY_KEY),
        reason=lambda event: str(dig(event, "bounce_category") or dig(event, "event") or ""),
        pieces=listed_as_events,
        options={"tracking_secret": "-"},
    ),
    "mandrill": Caller(
        "Mandrill (Mailchimp Transactional)",
        "mandrill.MandrillCombinedWebhookView",
        keyed(signatures.mandrill, _("“Key”, in Mandrill's list of webhooks.")),
        (_("In Mandrill open Settings, Webhooks, and add one with exactly the address above: it is part of the signature."), ALL, COPY_KEY),
        reason=lambda event: str(dig(event, "msg", "bounce_description") or dig(event, "event") or ""),
        pieces=listed_in_form,
        options={"webhook_key": "-"},
    ),
    "postal": Caller(
        "Postal",
        "postal.PostalTrackingWebhookView",
        keyed(
            signatures.postal,
            _("Run “postal default-dkim-record” on the server: what follows p= is the key."),
            _("public key"),
            "public_key",
        ),
        (_("In Postal open the mail server, Webhooks, and add one with the address above, for all events."), COPY_KEY),
        reason=word("payload", "status"),
        type_of=lambda type, _event: "bounced" if type == "failed" else type,
        message_id=postal_message_id,
        options={"webhook_key": "-"},
    ),
    "postmark": Caller(
        "Postmark",
        "postmark.PostmarkTrackingWebhookView",
        PASSWORD,
        (_("In Postmark open the server, the message stream, Webhooks, and add one."), PASTE, ALL),
        # The second, where a suppression follows from a bounce.
        reason=lambda event: str(dig(event, "Type") or dig(event, "SuppressionReason") or ""),
        type_of=postmark_type,
    ),
    "resend": Caller(
        "Resend",
        "resend.ResendTrackingWebhookView",
        keyed(signatures.svix, _("“Signing secret”, on the webhook's page at Resend. It begins with whsec_.")),
        (_("In Resend open Webhooks and add one with the address above."), ALL, COPY_KEY),
        reason=lambda event: f"{dig(event, 'data', 'bounce', 'type') or ''} {dig(event, 'data', 'bounce', 'subType') or ''}".strip(),
        reply=word("data", "failed", "reason"),
        headers=lambda event: dig(event, "data", "headers"),
        type_of=resend_type,
    ),
    "sendgrid": Caller(
        "SendGrid",
        "sendgrid.SendGridTrackingWebhookView",
        keyed(
            signatures.sendgrid,
            _("“Verification key”, which SendGrid shows once “Signed event webhook” is switched on."),
            _("public key"),
            "public_key",
        ),
        (
            _("In SendGrid open Settings, Mail settings, Event webhooks, and add one with the address above."),
            ALL,
            _("Switch “Signed event webhook” on."),
            COPY_KEY,
        ),
        reason=sendgrid_reason,
        status=word("status"),
        by_machine=lambda event: dig(event, "sg_machine_open") is True,
        pieces=listed,
    ),
    "sparkpost": Caller(
        "SparkPost",
        "sparkpost.SparkPostTrackingWebhookView",
        PASSWORD,
        (_("In SparkPost open Configuration, Webhooks, and make one."), PASTE, ALL),
        reason=lambda event: str(dig(sparkpost_event(event), "bounce_class") or ""),
        # Not is_proxy: behind a proxy there is a person.
        by_machine=lambda event: dig(sparkpost_event(event), "user_agent_parsed", "is_prefetched") is True,
        pieces=listed,
    ),
    "unisender_go": Caller(
        "Unisender Go",
        "unisender_go.UnisenderGoTrackingWebhookView",
        keyed(signatures.unisender, _("The key of the project or account that sends."), _("API key"), "api_key"),
        (_("In Unisender Go open Webhooks and add one with the address above, in the format JSON."), ALL),
        reason=lambda event: str(dig(event, "delivery_info", "delivery_status") or ""),
        knows_smtp=False,
        pieces=listed_by_user,
        options={"api_key": "-"},
    ),
}


def choices() -> list[tuple[str, str]]:
    return [(key, caller.name) for key, caller in CALLERS.items()]
