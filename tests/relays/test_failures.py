from __future__ import annotations

import pytest
from django.utils import translation

from mailhub.relays import failures
from mailhub.relays.base import Reply
from mailhub.relays.failures import FAILURES, UNKNOWN, explain

# (key, phase, code, enhanced, text): replies as servers and systems send them.
SAMPLES: list[tuple[str, str, int | None, str, str]] = [
    ("host_unknown", "resolve", None, "", "[Errno -2] Name or service not known"),
    ("host_unknown", "resolve", None, "", "[Errno -5] No address associated with hostname"),
    ("resolver", "resolve", None, "", "[Errno -3] Temporary failure in name resolution"),
    ("private_address", "connect", None, "", "10.0.0.5 is not a public address."),
    ("port_25_blocked", "connect", None, "", "ETIMEDOUT 203.0.113.9 did not answer within 10 seconds., port 25"),
    ("connect_timeout", "connect", None, "", "ETIMEDOUT 203.0.113.9 did not answer within 10 seconds., port 587"),
    ("connect_refused", "connect", None, "", "ECONNREFUSED (Connection refused), port 587"),
    ("unreachable", "connect", None, "", "ENETUNREACH (Network is unreachable), port 587"),
    ("certificate_name", "tls", None, "", "Hostname mismatch, certificate is not valid for 'mail.tea.example'."),
    ("certificate_name", "tls", None, "", "IP address mismatch, certificate is not valid for '203.0.113.9'."),
    ("certificate_expired", "tls", None, "", "certificate has expired"),
    ("certificate_self_signed", "tls", None, "", "self-signed certificate"),
    ("certificate_self_signed", "tls", None, "", "self signed certificate in certificate chain"),
    ("certificate_issuer", "tls", None, "", "unable to get local issuer certificate"),
    ("tls_on_plain_port", "tls", None, "", "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1016)"),
    ("tls_on_plain_port", "tls", None, "", "[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1010)"),
    ("tls_too_old", "tls", None, "", "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006)"),
    ("tls_too_old", "tls", None, "", "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version"),
    ("starttls_missing", "tls", None, "", "The server does not offer STARTTLS."),
    ("tls_not_available", "tls", 454, "4.7.0", "TLS not available due to temporary reason"),
    ("starttls_first", "sender", 530, "5.7.0", "Must issue a STARTTLS command first"),
    ("encryption_for_login", "login", 538, "5.7.11", "Encryption required for requested authentication mechanism"),
    ("blocklist", "greeting", 554, "5.7.1", "Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org"),
    ("blocklist", "greeting", 550, "5.7.606", "Access denied, banned sending IP. 203.0.113.9 is on our block list (S3150)"),
    ("ptr", "recipient", 550, "5.7.25", "The IP address sending this message does not have a PTR record setup"),
    ("ptr_text", "recipient", 450, "4.7.1", "Client host rejected: cannot find your hostname, [203.0.113.9]"),
    ("ehlo_name", "recipient", 504, "5.5.2", "<web1>: Helo command rejected: need fully-qualified hostname"),
    ("too_many_connections", "greeting", 421, "4.7.0", "Too many concurrent SMTP connections; please try again later."),
    ("app_password", "login", 534, "5.7.9", "Application-specific password required. For more information, go to"),
    ("browser_login", "login", 534, "5.7.14", "Please log in via your web browser and then try again."),
    ("mailbox_smtp_off", "login", 535, "5.7.139", "Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox."),
    ("oauth_only", "login", 535, "5.7.139", "Authentication unsuccessful, basic authentication is disabled."),
    ("token", "login", 535, "5.7.3", "Authentication unsuccessful: AADSTS700082: The refresh token has expired"),
    ("api_key_revoked", "login", 535, "", "Authentication failed: The provided authorization grant is invalid, expired, or revoked"),
    ("ses_credentials", "login", 535, "", "Authentication Credentials Invalid"),
    ("too_many_logins", "login", 454, "4.7.0", "Too many login attempts, please try again later."),
    ("account_disabled", "login", 535, "5.7.0", "Your account has been suspended. Please contact support."),
    ("address_not_allowed", "login", 525, "5.7.1", "Unauthorized IP address: 203.0.113.9 is not authorised"),
    ("no_common_mechanism", "login", None, "", "No way to log in. Offered: CRAM-MD5. Wanted: PLAIN, LOGIN."),
    ("no_common_mechanism", "login", 504, "5.7.4", "Unrecognized authentication mechanism"),
    ("password_in_clear", "login", None, "", "The password was not sent, because it could have been read on its way."),
    ("login_for_now", "login", 454, "4.7.0", "Temporary authentication failure"),
    ("credentials", "login", 535, "5.7.8", "Username and Password not accepted. For more information, go to"),
    ("credentials", "login", 535, "5.7.8", "Error: authentication failed: UGFzc3dvcmQ6"),
    ("quota", "data", 550, "5.4.5", "Daily user sending limit exceeded. For more information on Gmail"),
    ("quota", "data", 454, "", "Throttling failure: Daily message quota exceeded."),
    ("quota", "data", 454, "", "Throttling failure: Maximum sending rate exceeded."),
    ("quota_code", "recipient", 452, "4.4.5", "Insufficient room"),
    ("server_full", "data", 452, "4.3.1", "Insufficient system storage"),
    ("size", "data", 552, "5.3.4", "Message size exceeds fixed limit"),
    ("sender_unverified", "data", 554, "", "Message rejected: Email address is not verified. The following identities failed the check"),
    ("sender_unverified", "data", 550, "", "The from address does not match a verified Sender Identity."),
    ("sender_unverified", "sender", 450, "", "The tea.example domain is not verified. Please, add and verify your domain"),
    ("send_as", "data", 554, "5.2.252", "SendAsDenied; shop@tea.example not allowed to send as info@tea.example"),
    ("send_as", "recipient", 553, "5.7.1", "<shop@tea.example>: Sender address rejected: not owned by user info"),
    ("send_as", "data", 550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"),
    ("sender_domain", "recipient", 450, "4.1.8", "<shop@tea.example>: Sender address rejected: Domain not found"),
    ("sender_domain_code", "sender", 553, "5.1.8", "Bad sender"),
    ("dmarc", "data", 550, "5.7.26", "Your email has been blocked because the sender is unauthenticated."),
    ("dmarc", "data", 550, "5.7.515", "Access denied, sending domain TEA.EXAMPLE does not meet the required authentication level."),
    ("spf", "data", 550, "5.7.27", "Your email has been blocked because SPF did not pass"),
    ("dkim", "data", 550, "5.7.30", "Your email has been blocked because DKIM did not pass"),
    ("authentication_text", "data", 550, "5.7.1", "Unauthenticated email from tea.example is not accepted due to domain's DMARC policy."),
    ("relay_denied", "recipient", 554, "5.7.1", "<taro@example.net>: Relay access denied"),
    ("login_wanted", "sender", 530, "5.7.1", "Authentication required"),
    ("greylisted", "recipient", 450, "4.2.0", "<taro@example.net>: Recipient address rejected: Greylisted, see http://postgrey"),
    ("recipient_unknown", "recipient", 550, "5.1.1", "The email account that you tried to reach does not exist."),
    ("sender_refused", "sender", 550, "5.7.1", "Sender rejected"),
    ("connection_broke", "greeting", None, "", "The server closed the connection."),
    ("connection_broke", "connect", None, "", "ECONNRESET (Connection reset by peer), port 465"),
    ("slow", "greeting", None, "", "No answer in time."),
    ("greeting", "greeting", 554, "", "mx.example.net ESMTP not accepting messages"),
    ("sender_later", "sender", 451, "4.3.0", "Try again later"),
    ("unknown", "data", 554, "5.0.0", "Transaction failed"),
]


@pytest.mark.parametrize(("key", "phase", "code", "enhanced", "text"), SAMPLES, ids=lambda value: str(value)[:40])
def test_a_reply_is_explained(key: str, phase: str, code: int | None, enhanced: str, text: str) -> None:
    assert explain(phase, Reply(code, enhanced, text)).key == key


def test_every_entry_has_a_sample_and_a_key_of_its_own() -> None:
    keys = [failure.key for failure in FAILURES]
    assert len(keys) == len(set(keys)) >= 30
    assert {key for key, *_sample in SAMPLES} == {*keys, UNKNOWN.key}


def test_where_the_phase_is_not_known_the_text_is_enough() -> None:
    assert explain("", Reply(535, "5.7.8", "Username and Password not accepted")).key == "credentials"
    assert explain("", Reply(None, "", "self-signed certificate")).key == "certificate_self_signed"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_each_says_what_is_wrong_and_what_to_do(language: str) -> None:
    with translation.override(language):
        for failure in (*FAILURES, UNKNOWN):
            assert str(failure.cause), failure.key
            assert str(failure.step), failure.key


def test_phases_are_those_of_a_connection() -> None:
    assert all(failure.phases <= set(failures.PHASES) for failure in FAILURES)
