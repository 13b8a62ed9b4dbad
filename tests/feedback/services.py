"""What services post, in the shape that each documents, signed as each signs; the words and addresses are ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
KEY = "wholly-secret"
SVIX_KEY = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
PASSWORD = "opens-the-door"  # noqa: S105
TOPIC = "arn:aws:sns:ap-northeast-1:123456789012:mailhub"
CERTIFICATE_URL = "https://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"

ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Any) -> str:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def certificate(key: Any = RSA, days: int = 30) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Post:
    body: bytes
    content_type: str = JSON
    #: as WSGI names them
    meta: dict[str, str] = field(default_factory=dict)


#: body, address -> what is posted
Sign = Callable[[bytes, str], Post]


def by_password(body: bytes, url: str) -> Post:
    return Post(body, meta={"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"mailhub:{PASSWORD}".encode()).decode()})


def by_hmac(name: str) -> Sign:
    return lambda body, url: Post(body, meta={name: hmac.new(KEY.encode(), body, "sha256").hexdigest()})


def mailgun(body: bytes, url: str, token: str = "", at: float | None = None) -> Post:
    event = json.loads(body)
    stamp, token = str(int(at or time.time())), token or hashlib.sha256(body).hexdigest()[:50]
    signature = hmac.new(KEY.encode(), f"{stamp}{token}".encode(), "sha256").hexdigest()
    return Post(json.dumps({"signature": {"timestamp": stamp, "token": token, "signature": signature}, "event-data": event}).encode())


def mandrill(body: bytes, url: str) -> Post:
    signature = hmac.new(KEY.encode(), f"{url}mandrill_events{body.decode()}".encode(), "sha1").digest()
    meta = {"HTTP_X_MANDRILL_SIGNATURE": base64.b64encode(signature).decode()}
    return Post(urlencode({"mandrill_events": body.decode()}).encode(), FORM, meta)


def postal(body: bytes, url: str) -> Post:
    meta = {"HTTP_X_POSTAL_SIGNATURE": base64.b64encode(RSA.sign(body, padding.PKCS1v15(), hashes.SHA1())).decode()}  # noqa: S303
    return Post(body, meta=meta)


def resend(body: bytes, url: str, id: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", at: float | None = None) -> Post:
    stamp = str(int(at or time.time()))
    mac = hmac.new(base64.b64decode(SVIX_KEY.removeprefix("whsec_")), f"{id}.{stamp}.".encode() + body, "sha256").digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return Post(body, meta={"HTTP_SVIX_ID": id, "HTTP_SVIX_TIMESTAMP": stamp, "HTTP_SVIX_SIGNATURE": signature})


def sendgrid(body: bytes, url: str, at: float | None = None) -> Post:
    stamp = str(int(at or time.time()))
    signature = base64.b64encode(ELLIPTIC.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    name = "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK"
    return Post(body, meta={f"{name}_SIGNATURE": signature, f"{name}_TIMESTAMP": stamp})


def unisender(body: bytes, url: str) -> Post:
    digest = hashlib.md5(body.replace(b"AUTH", KEY.encode()), usedforsecurity=False).hexdigest()
    return Post(body.replace(b"AUTH", digest.encode()))


def sns(body: bytes, url: str, version: str = "2", **fields: str) -> Post:
    message = {
        "Type": "Notification",
        "MessageId": hashlib.sha256(body).hexdigest()[:36],
        "TopicArn": TOPIC,
        "Message": body.decode(),
        "Timestamp": "2026-11-25T01:00:02.120Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    names = (
        ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
        if message["Type"] == "Notification"
        else ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    )
    signed = "".join(f"{name}\n{message[name]}\n" for name in names).encode()
    algorithm: Any = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303
    message["Signature"] = base64.b64encode(RSA.sign(signed, padding.PKCS1v15(), algorithm)).decode()
    return Post(json.dumps(message).encode(), "text/plain")


# --------------------------------------------------------------------------------------------------------------- their hard bounces

SAID = "550 5.1.1 User unknown"
STAMP = 1_795_568_400


def ses(number: int, to: str) -> Any:
    return {
        "eventType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": to, "action": "failed", "status": "5.1.1", "diagnosticCode": f"smtp; {SAID}"}],
            "timestamp": "2026-11-25T01:00:00.000Z",
            "feedbackId": "0106019",
            "reportingMTA": "dsn; a8-20.smtp-out.amazonses.com",
        },
        "mail": {
            "timestamp": "2026-11-25T00:59:59.000Z",
            "source": "shop@tea.example",
            "messageId": "0106019-tea",
            "destination": [to],
            "headers": [
                {"name": "From", "value": "shop@tea.example"},
                {"name": "X-Metadata", "value": json.dumps({"mailhub": str(number)})},
            ],
        },
    }


def brevo(number: int, to: str) -> Any:
    return {
        "event": "hard_bounce", "email": to, "id": 26224, "date": "2026-11-25 10:00:00", "ts": STAMP, "ts_epoch": STAMP * 1000,
        "message-id": "<202611251000.1234@smtp-relay.mailin.fr>", "subject": "Tea", "reason": SAID,
        "X-Mailin-custom": json.dumps({"mailhub": str(number)}),
    }  # fmt: skip


def mailersend(number: int, to: str) -> Any:
    return {
        "type": "activity.hard_bounced",
        "domain_id": "7z3m5jgrogdpyo6n",
        "created_at": "2026-11-25T01:00:00.000000Z",
        "webhook_id": "2351ndgwr4zqx8ln",
        "url": "https://hub.example/callbacks/x",
        "data": {
            "object": "activity",
            "id": "62f114f8165fe0d8db0288e3",
            "type": "hard_bounced",
            "created_at": "2026-11-25T01:00:00.000000Z",
            "email": {
                "object": "email", "id": "62f114f7165fe0d8db0288e2", "status": "rejected", "tags": [f"mailhub-{number}"],
                "message": {"object": "message", "id": "62f114f5165fe0d8db0288de"}, "recipient": {"object": "recipient", "email": to},
            },
            "morph": {"object": "recipient_bounce", "reason": SAID},
        },
    }  # fmt: skip


def mailgun_event(number: int, to: str) -> Any:
    return {
        "event": "failed", "id": "G9Bn5sl1TC6nu79C8C0bwg", "timestamp": STAMP + 0.25, "severity": "permanent", "reason": "bounce",
        "recipient": to, "recipient-domain": to.rpartition("@")[2], "log-level": "error", "tags": [],
        "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": SAID, "description": "", "attempt-no": 1},
        "message": {"headers": {"message-id": "20261125@tea.example", "to": to, "from": "shop@tea.example", "subject": "Tea"}},
        "user-variables": {"mailhub": str(number)},
    }  # fmt: skip


def mailjet(number: int, to: str) -> Any:
    return [{
        "event": "bounce", "time": STAMP, "MessageID": 13792286917004336, "email": to, "mj_campaign_id": 0, "customcampaign": "",
        "CustomID": "", "Payload": json.dumps({"mailhub": str(number)}), "blocked": False, "hard_bounce": True,
        "error_related_to": "recipient", "error": "user unknown",
    }]  # fmt: skip


def mailtrap(number: int, to: str) -> Any:
    return {"events": [{
        "event": "bounce", "message_id": "a6e2cbf2-b6a6-11f0-9b57-0242ac120002", "sending_stream": "transactional", "email": to,
        "timestamp": STAMP, "event_id": "bede7236-2284-43d6-a953-1fdcafd0fdbc", "custom_variables": {"mailhub": str(number)},
        "response": SAID, "response_code": 550, "bounce_category": "badmailbox",
    }]}  # fmt: skip


def mandrill_event(number: int, to: str) -> Any:
    return [{
        "event": "hard_bounce", "ts": STAMP, "_id": "exampleaaaaaaaaaaaaaaaaaaaaaaaa8",
        "msg": {
            "ts": STAMP - 5, "subject": "Tea", "email": to, "sender": "shop@tea.example", "tags": [], "metadata": {"mailhub": str(number)},
            "_id": "exampleaaaaaaaaaaaaaaaaaaaaaaaa8", "state": "bounced", "bounce_description": "bad_mailbox", "diag": f"smtp;{SAID}",
        },
    }]  # fmt: skip


def postal_event(number: int, to: str) -> Any:
    return {
        "event": "MessageDeliveryFailed", "timestamp": STAMP, "uuid": "b2c4d7e0-7f4f-4f0c-a1ea-0e5b6f0f1a11",
        "payload": {
            "status": "HardFail", "details": "Permanent SMTP delivery error", "output": SAID, "sent_with_ssl": True, "timestamp": STAMP,
            "time": 0.22,
            "message": {
                "id": 12345, "token": "abcdef123", "direction": "outgoing", "message_id": "5817a64332f44@rp.postal.example", "to": to,
                "from": "shop@tea.example", "subject": "Tea", "timestamp": STAMP - 5, "spam_status": "NotSpam", "tag": f"mailhub-{number}",
            },
        },
    }  # fmt: skip


def postmark(number: int, to: str) -> Any:
    return {
        "RecordType": "Bounce", "ID": 42, "Type": "HardBounce", "TypeCode": 1, "Name": "Hard bounce", "Tag": "", "ServerID": 23,
        "MessageID": "00000000-0000-0000-0000-000000000000", "Metadata": {"mailhub": str(number)}, "MessageStream": "outbound",
        "Description": "The server was unable to deliver your message.", "Details": f"smtp;{SAID}", "Email": to,
        "From": "shop@tea.example", "BouncedAt": "2026-11-25T01:00:00Z", "DumpAvailable": False, "Inactive": True, "CanActivate": True,
    }  # fmt: skip


def resend_event(number: int, to: str) -> Any:
    return {
        "type": "email.bounced",
        "created_at": "2026-11-25T01:00:00.000Z",
        "data": {
            "created_at": "2026-11-25T00:59:59.000Z", "email_id": "56761188-7520-42d8-8898-ff6fc54ce618", "from": "shop@tea.example",
            "to": [to], "subject": "Tea", "headers": [{"name": "X-Metadata", "value": json.dumps({"mailhub": str(number)})}],
            "bounce": {"type": "Permanent", "subType": "NoEmail", "message": "The recipient's provider sent a hard bounce message."},
        },
    }  # fmt: skip


def sendgrid_event(number: int, to: str) -> Any:
    return [{
        "email": to, "timestamp": STAMP, "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>", "event": "bounce", "type": "bounce",
        "bounce_classification": "Invalid Address", "sg_event_id": f"6g4ZI7SA-xmRDv57GoPIPw-{number}", "status": "5.1.1", "reason": SAID,
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "mailhub": str(number), "anymail_id": "e1f2",
    }]  # fmt: skip


def sparkpost(number: int, to: str) -> Any:
    return [{"msys": {"message_event": {
        "type": "bounce", "bounce_class": "10", "error_code": "550", "event_id": "92356927693813856", "raw_reason": SAID, "reason": SAID,
        "raw_rcpt_to": to, "rcpt_to": to.lower(), "rcpt_meta": {"mailhub": str(number)}, "timestamp": str(STAMP),
        "transmission_id": "65832150921904138", "message_id": "000443ee14578172be22", "subject": "Tea",
    }}}]  # fmt: skip


def unisender_event(number: int, to: str) -> Any:
    return {"auth": "AUTH", "events_by_user": [{"user_id": 456, "project_id": "6432890213745872", "events": [{
        "event_name": "transactional_email_status",
        "event_data": {
            "job_id": "1a3Q2V-0000OZ-S0", "metadata": {"mailhub": str(number)}, "email": to, "status": "hard_bounced",
            "event_time": "2026-11-25 01:00:00",
            "delivery_info": {"delivery_status": "err_user_unknown", "destination_response": SAID},
        },
    }]}]}  # fmt: skip


@dataclass(frozen=True)
class Service:
    event: Callable[[int, str], Any]
    sign: Sign
    secrets: dict[str, str]

    def post(self, number: int, to: str, url: str) -> Post:
        return self.sign(json.dumps(self.event(number, to)).encode(), url)


SIGNED = {"signing_key": KEY}
SERVICES = {
    "amazon_ses": Service(ses, sns, {"topic": TOPIC}),
    "brevo": Service(brevo, by_password, {"password": PASSWORD}),
    "mailersend": Service(mailersend, by_hmac("HTTP_SIGNATURE"), SIGNED),
    "mailgun": Service(mailgun_event, mailgun, SIGNED),
    "mailjet": Service(mailjet, by_password, {"password": PASSWORD}),
    "mailtrap": Service(mailtrap, by_hmac("HTTP_MAILTRAP_SIGNATURE"), SIGNED),
    "mandrill": Service(mandrill_event, mandrill, SIGNED),
    "postal": Service(postal_event, postal, {"public_key": public(RSA)}),
    "postmark": Service(postmark, by_password, {"password": PASSWORD}),
    "resend": Service(resend_event, resend, {"signing_key": SVIX_KEY}),
    "sendgrid": Service(sendgrid_event, sendgrid, {"public_key": public(ELLIPTIC)}),
    "sparkpost": Service(sparkpost, by_password, {"password": PASSWORD}),
    "unisender_go": Service(unisender_event, unisender, {"api_key": KEY}),
}
