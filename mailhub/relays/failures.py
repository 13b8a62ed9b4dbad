"""Why a relay does not work, in words: what the server said, or how the connection failed, looked up in one table.

    failure = explain("login", Reply(535, "5.7.8", "Username and Password not accepted"))
    failure.cause, failure.step

Rows are read from the top; the first that fits is the answer, so what is told apart by its text stands before what a code says alone.
The services' own pages are the source of what is said of them; a sample of each reply is in tests/relays/test_failures.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from mailhub.relays.base import Reply

# In the order in which a connection comes to them.
PHASES: Final = ("resolve", "connect", "tls", "greeting", "login", "sender", "recipient", "data")


@dataclass(frozen=True, slots=True)
class Failure:
    key: str
    #: what is wrong
    cause: Any
    #: what to do about it
    step: Any
    #: of PHASES; empty: whenever
    phases: frozenset[str] = frozenset()
    #: the code, or its beginning; "": whatever code, or none
    code: str = ""
    #: the enhanced status code (RFC 3463), or what it ends in ("7.8": both 4.7.8 and 5.7.8); any of them will do
    enhanced: tuple[str, ...] = ()
    #: what the text holds
    text: re.Pattern[str] = field(default=re.compile(""))

    def fits(self, phase: str, reply: Reply) -> bool:
        return (
            (not phase or not self.phases or phase in self.phases)
            and str(reply.code or "").startswith(self.code)
            and (not self.enhanced or reply.enhanced.endswith(self.enhanced))
            and bool(self.text.search(reply.text))
        )


def row(key: str, cause: Any, step: Any, *, at: str = "", code: str = "", enhanced: str = "", text: str = "") -> Failure:
    return Failure(key, cause, step, frozenset(at.split()), code, tuple(enhanced.split()), re.compile(text, re.IGNORECASE))


FAILURES: Final = (
    # -- the way to the server
    row(
        "host_unknown",
        _("There is no server of that name."),
        _("Check the spelling of the server's name against what the service tells."),
        at="resolve",
        text=r"not known|no address associated|nodename nor servname|cannot be a host name|NXDOMAIN",
    ),
    row(
        "resolver",
        _("Names cannot be looked up at the moment."),
        _("Try again. If it stays so, check this machine's DNS and its connection to the network."),
        at="resolve",
        text=r"temporary failure|try again|timed out",
    ),
    row(
        "private_address",
        _("The name leads to an address inside a private network, which MailHub does not connect to unasked."),
        _("If the server is yours, add its network to MAILHUB_ALLOW_PRIVATE_ADDRESSES and start MailHub anew."),
        text=r"is not a public address",
    ),
    row(
        "port_25_blocked",
        _("Nothing answers on port 25. Most hosting companies block it for connections that go out."),
        _("Use port 587, 465 or 2525, whichever the service offers, or ask your hosting company to open port 25."),
        at="connect",
        text=r"(?=.*\bport 25\b)(?=.*(ETIMEDOUT|did not answer|EHOSTUNREACH|ENETUNREACH))",
    ),
    row(
        "connect_timeout",
        _("The server did not answer. A firewall is probably on the way, or the port is wrong."),
        _("Check the port against what the service tells, and whether this machine's firewall lets it out."),
        at="connect",
        text=r"ETIMEDOUT|did not answer|timed out",
    ),
    row(
        "connect_refused",
        _("The machine is there, but no mail server listens on that port."),
        _("Check the port: mostly 587 with STARTTLS, or 465 with TLS from the start."),
        at="connect",
        text=r"ECONNREFUSED|refused",
    ),
    row(
        "unreachable",
        _("No way leads from this machine to the server."),
        _("Check this machine's network. If the server has an IPv6 address alone, this machine needs one too."),
        at="connect",
        text=r"EHOSTUNREACH|ENETUNREACH|unreachable",
    ),
    # -- TLS
    row(
        "certificate_name",
        _("The certificate is for another name than the server that you entered."),
        _("Enter the server's name as the service tells it; hosting companies often want theirs and not your domain's."),
        at="tls",
        text=r"hostname mismatch|ip address mismatch|doesn't match|not valid for",
    ),
    row(
        "certificate_expired",
        _("The server's certificate has expired."),
        _("Tell whoever runs the server. Until then no password should be sent there."),
        at="tls",
        text=r"certificate has expired|not yet valid",
    ),
    row(
        "certificate_self_signed",
        _("The server's certificate is signed by itself: it proves nothing."),
        _("Have whoever runs the server install one of a public authority, or of one that this machine trusts."),
        at="tls",
        text=r"self[- ]signed",
    ),
    row(
        "certificate_issuer",
        _("This machine does not know the authority that signed the server's certificate, or the server leaves out a part of the chain."),
        _("Have whoever runs the server send the whole chain, or install the authority's certificate on this machine."),
        at="tls",
        text=r"unable to get (local )?issuer|unknown ca|certificate verify failed|cannot be trusted",
    ),
    row(
        "tls_on_plain_port",
        _("The server does not speak TLS from the start on that port."),
        _("Choose STARTTLS with port 587, or keep TLS from the start and take port 465."),
        at="tls greeting",
        text=r"wrong.version.number|record layer failure|http request|no SMTP reply",
    ),
    row(
        "tls_too_old",
        _("The server and MailHub have no version of TLS in common. MailHub speaks TLS 1.2 and newer."),
        _("Have whoever runs the server switch to a newer version, or use the service's present server name."),
        at="tls",
        text=r"unsupported.protocol|protocol.version|handshake.failure|no (protocols|shared cipher)|version too low",
    ),
    row(
        "starttls_missing",
        _("The server offers no STARTTLS on that port, so nothing was sent."),
        _("Choose TLS from the start with port 465, or another port. If it offers none at all, do not send passwords there."),
        text=r"does not offer STARTTLS",
    ),
    row(
        "tls_not_available",
        _("The server cannot encrypt at the moment."),
        _("Try again later. If it stays so, tell whoever runs the server."),
        at="tls greeting sender",
        code="454",
        text=r"TLS",
    ),
    row(
        "starttls_first",
        _("The server wants encryption before anything else."),
        _("Choose STARTTLS as encryption."),
        code="530",
        text=r"STARTTLS",
    ),
    row(
        "encryption_for_login",
        _("The server takes passwords only over an encrypted connection."),
        _("Choose STARTTLS or TLS as encryption."),
        enhanced="7.11",
    ),
    # -- who we are
    row(
        "blocklist",
        _("The address that this machine sends from is on a blocklist."),
        _("Look the address up at the list that the reply names, mend the cause, and ask to be taken off. Or send through a service."),
        text=r"spamhaus|spamcop|barracuda|sorbs|abusix|blocked using|black ?list|block ?list|\bRBL\b|\bDNSBL\b|listed (at|by|in|on)",
    ),
    row(
        "ptr",
        _("The address that this machine sends from has no name of its own in the DNS (PTR), or one that does not lead back."),
        _("Ask whoever you have the address from to set its PTR record to the EHLO name, and publish that name's address."),
        enhanced="7.25",
    ),
    row(
        "ptr_text",
        _("The address that this machine sends from has no name of its own in the DNS (PTR), or one that does not lead back."),
        _("Ask whoever you have the address from to set its PTR record to the EHLO name, and publish that name's address."),
        text=r"reverse (dns|hostname|lookup)|\bPTR\b|cannot find your hostname",
    ),
    row(
        "ehlo_name",
        _("The server does not like the name that we greet with."),
        _("Enter a full host name that leads to this machine as the EHLO name."),
        text=r"(helo|ehlo).*(rejected|invalid|fully.qualified|not found)",
    ),
    row(
        "too_many_connections",
        _("The server has as many connections from us as it allows."),
        _("Lower the relay's number of connections."),
        text=r"too many .{0,30}(connections|sessions)|concurrent connections limit|connection (limit|rate)",
    ),
    # -- logging in
    row(
        "app_password",
        _("The account wants an app password: its ordinary one does not work for programs."),
        _("Make an app password in the account's security settings (two-step verification must be on), and enter it here."),
        at="login",
        text=r"app(lication)?[- ]specific password|InvalidSecondFactor|app password",
    ),
    row(
        "browser_login",
        _("The service holds this log-in back until somebody has let it in with a browser."),
        _("Log in to the account with a browser once, confirm that it was you, and try again. An app password spares you that."),
        at="login",
        text=r"log in (via|with|through) your (web )?browser|WebLoginRequired|unusual sign-?in",
    ),
    row(
        "mailbox_smtp_off",
        _("The organisation has switched sending by SMTP off for this mailbox."),
        _("Have an administrator of Microsoft 365 switch “Authenticated SMTP” on for the mailbox, or use XOAUTH2."),
        at="login",
        text=r"SmtpClientAuthentication is disabled",
    ),
    row(
        "oauth_only",
        _("The service takes no passwords any more, only OAuth tokens."),
        _("Choose XOAUTH2 as the way to log in and give a token, or use a service with passwords or API keys."),
        at="login",
        text=r"basic auth(entication)? is (disabled|not supported)|basic authentication",
    ),
    row(
        "token",
        _("The OAuth token is expired or not for this account."),
        _("Get a new access token with the permission to send by SMTP, and enter it here."),
        at="login",
        text=r"AADSTS|oauth|access token|bearer|\"status\":\"40",
    ),
    row(
        "api_key_revoked",
        _("The API key is not valid any more."),
        _("Make a new key that may send mail, and enter it as the password. The user name is the word that the service tells."),
        at="login",
        text=r"authorization grant is invalid|api key (is )?(invalid|revoked|not valid)|invalid api key",
    ),
    row(
        "ses_credentials",
        _("Amazon SES does not know these credentials in this region."),
        _("Make SMTP credentials in the SES console of the very region whose server is entered. They are not the IAM access keys."),
        at="login",
        text=r"Authentication Credentials Invalid|SignatureDoesNotMatch",
    ),
    row(
        "too_many_logins",
        _("The server lets nobody in for now, because of too many attempts."),
        _("Wait a quarter of an hour. Then check user name and password before you try again."),
        at="login",
        text=r"too many (login|auth|failed|bad|attempts)|login rate|temporarily (blocked|locked)",
    ),
    row(
        "account_disabled",
        _("The account is suspended or locked."),
        _("Log in at the service's website: it says why, and how to open it again."),
        text=r"account .{0,40}(disabled|suspended|locked|inactive|terminated|on hold)|(disabled|suspended) account",
    ),
    row(
        "address_not_allowed",
        _("The service lets in only addresses that it knows, and this machine's is not among them."),
        _("Add this machine's address to the list at the service."),
        text=r"(ip|address).{0,60}(not (allowed|authori[sz]ed|whitelisted|permitted|registered)|unauthori[sz]ed)|unauthori[sz]ed ip",
    ),
    row(
        "no_common_mechanism",
        _("The server and the relay's settings have no way to log in in common."),
        _("Choose another way to log in, or another encryption: many servers offer passwords only once the connection is encrypted."),
        at="login",
        text=r"No way to log in|mechanism",
    ),
    row(
        "password_in_clear",
        _("The password was not sent, because it could have been read on its way."),
        _("Choose STARTTLS or TLS, and have the certificate checked."),
        at="login",
        text=r"could have been read",
    ),
    row(
        "login_for_now",
        _("The server cannot check passwords at the moment."),
        _("Try again in a few minutes. If it stays so, ask the service."),
        at="login",
        code="4",
    ),
    row(
        "credentials",
        _("User name or password is wrong."),
        _("Enter both anew. Some services want the whole address as the user name, others a word of their own or an app password."),
        at="login",
        code="5",
    ),
    # -- limits
    row(
        "quota",
        _("The account has sent as much as it may for now."),
        _("Mail waits, or takes the route's next relay, until the limit opens again. Enter the limit as a quota, or take a larger plan."),
        text=r"(sending|send|daily|hourly|monthly|message|mail|rate|recipient).{0,20}(limit|quota).{0,30}(exceeded|reached|passed)"
        r"|limit exceeded|quota exceeded|maximum sending rate|exceeded .{0,40}(limit|quota|rate|messages per)|throttl",
    ),
    row("quota_code", _("The account has sent as much as it may for now."), _("Mail waits until the limit opens again."), enhanced="4.5"),
    row(
        "server_full",
        _("The server's disk is full, or it is overloaded."),
        _("MailHub tries again by itself. If it stays so, ask the service."),
        enhanced="3.1",
    ),
    row(
        "size",
        _("The mail is larger than the server takes."),
        _("Make pictures and attachments smaller, or put them on a website and link to them."),
        enhanced="3.4 2.3",
    ),
    # -- the sender and its domain
    row(
        "sender_unverified",
        _("The service does not know this sender yet."),
        _("Verify the address or its domain at the service, in the same account and region."),
        text=r"(address|identity|identities|domain|sender).{0,60}(is not|isn't|are not|not) (been )?(verified|validated|confirmed)"
        r"|verified sender identity|unverified (address|sender|domain)|is not a verified",
    ),
    row(
        "send_as",
        _("The account may not send as this address."),
        _("Have an administrator give the account “Send as” for it, or choose the account's own address as the sender."),
        text=r"SendAsDenied|send as this sender|not allowed to send as|not permitted to send as|not owned by user",
    ),
    row(
        "sender_domain",
        _("The sender's domain cannot be found in the DNS."),
        _("Publish an address or MX record for the domain; its page here says which others are missing."),
        text=r"(sender|from).{0,60}domain.{0,20}(not found|does not exist|not resolve)|domain of sender address|unresolvable domain",
    ),
    row("sender_domain_code", _("The sender's domain cannot be found in the DNS."), _("Look at the domain's page here."), enhanced="1.8"),
    row(
        "dmarc",
        _("The mail fails DMARC: neither SPF nor DKIM is of the sender's domain."),
        _("Look at the domain's page: publish what is missing, and sign with a key of the domain."),
        enhanced="7.26 7.515 7.40 7.32",
    ),
    row(
        "spf",
        _("The sender's domain does not let this relay send for it (SPF)."),
        _("Look at the domain's page: it shows the SPF record to publish."),
        enhanced="7.23 7.24 7.27",
    ),
    row(
        "dkim",
        _("The DKIM signature is missing or does not verify."),
        _("Look at the domain's page: the key's record must be published as shown."),
        enhanced="7.20 7.21 7.22 7.30",
    ),
    row(
        "authentication_text",
        _("The receiver cannot tell that the mail is the sender domain's own."),
        _("Look at the domain's page: publish what is missing for SPF, DKIM and DMARC."),
        text=r"\b(SPF|DKIM|DMARC)\b|unauthenticated",
    ),
    row(
        "relay_denied",
        _("The server takes mail for its own domains alone from us, because we have not logged in."),
        _("Enter user name and password. If the server is yours, let this machine's address relay."),
        text=r"relay(ing)? (access )?(denied|not (allowed|permitted))|unable to relay|not permitted to relay",
    ),
    row(
        "login_wanted",
        _("The server wants a log-in before it takes mail."),
        _("Enter user name and password."),
        text=r"authentication (is )?required|must (first )?authenticate|not authenticated|log ?in first",
    ),
    row(
        "greylisted",
        _("The server takes mail from strangers only at the second try (greylisting)."),
        _("Nothing: MailHub tries again by itself."),
        text=r"gr[ea]y-?list",
    ),
    row(
        "recipient_unknown",
        _("There is no such recipient."),
        _("The relay works. Try another address."),
        at="recipient",
        enhanced="1.1 1.10",
    ),
    row(
        "sender_refused",
        _("The server does not take mail from this sender."),
        _("Choose a sender that belongs to the account, or have the service allow it."),
        at="sender",
        code="5",
    ),
    # -- what is left, phase by phase
    row(
        "connection_broke",
        _("The server ended the connection."),
        _("Try again. If it stays so, check port and encryption, and ask the service whether it blocks this machine."),
        text=r"ECONNRESET|closed the connection|connection broke|reset by peer|EOF",
    ),
    row(
        "slow",
        _("The server took too long."),
        _("Try again. If it stays so, raise the patience among what is rarely needed."),
        text=r"in time",
    ),
    row("greeting", _("The server lets us not in."), _("Its reply says why. Ask the service."), at="greeting"),
    row(
        "sender_later", _("The server takes no mail from this sender for now."), _("MailHub tries again by itself."), at="sender", code="4"
    ),
)
UNKNOWN: Final = Failure(
    "unknown",
    _("It failed for a reason that MailHub does not know."),
    _("What the server said may help; so may the service."),
)


def explain(phase: str, reply: Reply) -> Failure:
    """`phase`: one of PHASES, or "" where it is not known."""
    return next((failure for failure in FAILURES if failure.fits(phase, reply)), UNKNOWN)


# A reply as `str(Reply)` writes it.
WRITTEN = re.compile(r"(?:(\d{3}) )?(?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)


def explain_text(said: str) -> Failure | None:
    """Of what was kept of a reply; None where the table knows nothing of it."""
    code, enhanced, text = WRITTEN.fullmatch(said).groups()  # type: ignore[union-attr]
    found = explain("", Reply(int(code) if code else None, enhanced or "", text))
    return None if found is UNKNOWN else found
