"""Accounts at mail servers and services, found in the settings of other programs. Text goes in, accounts come out: no database, and
nothing of the text is ever run.

What a text is, is told by what stands in it. What is wrong with it is said by line and by the name of an option; no value is repeated.
docs/relays.md has the list of what is read; accounts.py makes relays of what is found.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import io
import json
import re
import shlex
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mailhub.relays import php, providers

MOST_BYTES = 256 * 1024
MOST_ACCOUNTS = 100
# Told; what is wrong with a hundred lines is mostly one thing.
MOST_PROBLEMS = 50
LONGEST_NAME = 90
# More than any form takes.
LONGEST_VALUE = 10_000


class Unreadable(Exception):
    """The text as a whole cannot be used."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a relay can be made of."""

    #: of providers.REGISTRY
    kind: str
    #: what the kind's form is given, in words, secrets among it
    fields: Mapping[str, str] = field(repr=False)
    #: what it was called where it comes from; "" where it had no name
    name: str = ""
    #: From addresses that stand with it
    senders: tuple[str, ...] = ()
    #: how many in a Quota.Period
    limits: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    #: counted from 1; 0 where no line is to blame
    line: int
    words: str


@dataclass(slots=True)
class Reading:
    """What a text holds."""

    #: of FORMATS
    format: str = ""
    accounts: list[Account] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, line: int, words: str) -> None:
        self.problems.append(Problem(line, words))


def decode(data: bytes) -> str:
    """UTF-8 or UTF-16 with or without their marks, or what Japanese Windows calls Shift_JIS. Raises Unreadable."""
    if len(data) > MOST_BYTES:
        raise Unreadable(too_large())
    utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if b"\0" in data and not utf_16:
        raise Unreadable(_("This is no text file."))
    for encoding in ["utf-16"] if utf_16 else ["utf-8-sig", "cp932"]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Unreadable(_("The file is neither UTF-8, UTF-16 nor Shift_JIS. Save it as UTF-8."))


def too_large() -> str:
    return _("The text is larger than %(limit)s KB. Leave only the lines about mail.") % {"limit": MOST_BYTES // 1024}


def read(text: str) -> Reading:
    """The accounts of a text; no format where it is none that is known. Raises Unreadable."""
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise Unreadable(too_large())
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for key, known in FORMATS.items():
        reading = known.read(text)
        if reading is not None:
            reading.format = reading.format or key
            _limit(reading)
            return reading
    return Reading()


def _limit(reading: Reading) -> None:
    """What stands twice is one account; and no page is endless."""
    found: list[Account] = []
    for account in reading.accounts:
        if len(found) <= MOST_ACCOUNTS and account not in found:
            found.append(account)
    del reading.problems[MOST_PROBLEMS:]
    if len(found) > MOST_ACCOUNTS:
        reading.problem(0, _("There are more than %(limit)s accounts; the others were left out.") % {"limit": MOST_ACCOUNTS})
    reading.accounts = found[:MOST_ACCOUNTS]


# -------------------------------------------------------------------------------------------------------------------- accounts

IMPLICIT = frozenset({"ssl", "smtps", "tls_wrapper", "wrapper", "implicit", "ssltls", "ssl/tls", "465", "tlsから開始", "常時tls"})
EXPLICIT = frozenset({"tls", "starttls", "tls/starttls", "587"})
CLEAR = frozenset({"none", "no", "off", "false", "0", "plain", "なし", "無", "無し"})
UNSAID = frozenset({"smtp", "null", "auto", "default"})
YES = frozenset({"1", "true", "yes", "on", "はい", "有効", "tls", "ssl"})
ADDRESS = re.compile(r"[^\s@<>\"',]{1,64}@[^\s@<>\"',]{1,255}")


def words(value: Any) -> str:
    """A value of a setting as text that can be shown and stored; "" for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, int) and abs(value) < 2**63:
        return str(value)
    return value[:LONGEST_VALUE].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def smtp(
    host: Any,
    port: Any = "",
    security: Any = "",
    username: Any = "",
    password: Any = "",
    *,
    name: Any = "",
    senders: Any = (),
    more: Mapping[str, Any] | None = None,
) -> Account:
    """`security` in whatever words; nothing said means STARTTLS, so that no password is ever sent where it can be read."""
    server, given_port, said = words(host).strip(), words(port).strip(), words(security).strip().lower()
    if match := re.fullmatch(r"(ssl|tls|smtps?)://(.*?)/?", server, re.IGNORECASE):
        said, server = said or {"ssl": "ssl", "smtps": "ssl", "tls": "tls"}.get(match[1].lower(), ""), match[2]
    if match := re.fullmatch(r"(\[[^\[\]]+\]|[^:\[\]]+):(\d{1,5})", server):
        server, given_port = match[1], given_port or match[2]
    server = server.strip("[]").rstrip(".")
    if said in UNSAID:
        said = ""
    if said in IMPLICIT or given_port == "465":
        chosen = "tls"
    elif said in EXPLICIT or not (said in CLEAR or (not said and server.lower() in ("localhost", "127.0.0.1", "::1"))):
        chosen = "starttls"
    else:
        chosen = "none"
    fields = {
        "host": server,
        "port": given_port or {"tls": "465", "starttls": "587", "none": "25"}[chosen],
        "security": chosen,
        "username": words(username),
        "password": words(password),
        **{key: words(value) for key, value in (more or {}).items() if words(value)},
    }
    return Account("smtp", fields, title(name), addresses(senders))


def title(name: Any) -> str:
    return " ".join(words(name).split())[:LONGEST_NAME]


def addresses(found: Any) -> tuple[str, ...]:
    """The mail addresses in it, whatever stands around them."""
    parts = found if isinstance(found, list | tuple) else [found]
    return tuple(dict.fromkeys(address for part in parts for address in ADDRESS.findall(words(part)[:1000])))


# What tools call each service, and what they call the options of MailHub's kind for it besides anymail's own names, which these are.
SERVICES: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "amazon_ses": (
        ("amazon_ses", "amazonses", "ses"),
        {
            "access_key_id": ("client_id", "access_key", "aws_access_key_id", "key"),
            "secret_access_key": ("client_secret", "secret_key", "aws_secret_access_key", "secret"),
            "region": ("region_name", "default_region", "aws_region", "aws_default_region"),
        },
    ),
    "brevo": (("brevo", "sendinblue"), {"api_key": ("key",)}),
    "mailersend": (("mailersend",), {"api_token": ("api_key",)}),
    "mailgun": (("mailgun",), {"api_key": ("secret",), "sender_domain": ("domain", "domain_name")}),
    "mailjet": (("mailjet",), {"api_key": ("apikey", "access_key"), "secret_key": ("secret", "apisecret", "api_secret")}),
    "mailtrap": (("mailtrap",), {"api_token": ("token", "api_key"), "sandbox_id": ("inbox_id",)}),
    "mandrill": (("mandrill",), {"api_key": ("key", "secret")}),
    "postal": (("postal",), {}),
    "postmark": (
        ("postmark",),
        {"server_token": ("server_api_token", "api_token", "api_key", "token"), "message_stream": ("message_stream_id",)},
    ),
    "resend": (("resend",), {"api_key": ("key",)}),
    "scaleway": (("scaleway",), {}),
    "sendgrid": (("sendgrid",), {"api_key": ("key",)}),
    "sparkpost": (("sparkpost",), {"api_key": ("secret", "key")}),
    "unisender_go": (("unisender_go", "unisendergo"), {}),
}
KINDS = {name: kind for kind, (names, _options) in SERVICES.items() for name in names}


def service(kind: str, given: Mapping[str, Any], *, name: Any = "", senders: Any = (), kept: bool = True) -> Account | None:
    """An account at a service by its API; None where nothing of a key is there. `kept`: the secrets are as they were typed."""
    provider = providers.load(kind)
    fields = {}
    for option, asked in provider.options_form.base_fields.items():
        secret = option in provider.secret_options
        names = (option, *SERVICES[kind][1].get(option, ()))
        value = next((words(given[each]).strip() for each in names if words(given.get(each)).strip()), "")
        if isinstance(asked, forms.ChoiceField):
            # Where the account is: a word, or the address of the interface.
            where = " ".join(words(given.get(each)) for each in ("region", "endpoint", "api_url")).lower()
            choices = [str(choice) for choice, _label in asked.choices]  # type: ignore[union-attr,misc]
            value = choices[1] if re.search(r"\beu\b", where) else choices[0]
        fields[option] = value if kept or not secret else ""
    if kept and not any(fields[option] for option in provider.secret_options):
        return None
    return Account(kind, {option: value for option, value in fields.items() if value}, title(name), addresses(senders))


def unsupported(name: str) -> str:
    return _("MailHub has no kind of relay for “%(mailer)s”. Make a user name and a password for SMTP there, and add those.") % {
        "mailer": title(name)
    }


def worked_out(name: str) -> str:
    return _("The value of %(name)s is worked out when the program runs. Write the value itself there.") % {"name": name}


# -------------------------------------------------------------------------------------------------------- plugins of WordPress


def opened(value: Any) -> str:
    """A password that a plugin put into Base64, as that plugin reads it: one that is no Base64 of text is meant as it is."""
    given = words(value)
    try:
        found = base64.b64decode(given, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return given
    return found if found and found.isprintable() else given


def unless_locked(value: Any) -> str:
    """A password; "" for one that WP Mail SMTP locked with a key of the site: Base64 of a nonce of 24 bytes and a mark of 16 at least."""
    given = words(value)
    try:
        locked = len(base64.b64decode(given, validate=True)) > 40
    except (binascii.Error, ValueError):
        locked = False
    return "" if locked else given


def login(says: Any, user: Any, password: Any) -> tuple[Any, Any]:
    """Who logs in: nobody, where the setting says so."""
    return ("", "") if words(says).lower() in CLEAR else (user, password)


def group(found: Any, name: str) -> Mapping[str, Any]:
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def wp_mail_smtp(found: Mapping[str, Any]) -> Reading | None:
    """Also Easy WP SMTP from version 2 on, which has the same."""
    mail, server = group(found, "mail"), group(found, "smtp")
    if "mailer" not in mail and not ("host" in server and "mail" in found):
        return None
    reading = Reading("wp_mail_smtp")
    mailer, senders = words(mail.get("mailer")) or "smtp", mail.get("from_email")
    if words(server.get("host")):
        logs_in = words(server.get("auth")).lower() not in CLEAR
        # "none" with autotls is STARTTLS wherever the server has it.
        security = server.get("encryption")
        if words(security).lower() in CLEAR and words(server.get("autotls")).lower() not in CLEAR:
            security = ""
        user, password = (server.get("user"), unless_locked(server.get("pass"))) if logs_in else ("", "")
        if logs_in and words(server.get("pass")) and not password:
            reading.problem(0, locked("WP Mail SMTP"))
        reading.accounts.append(smtp(server.get("host"), server.get("port"), security, user, password, senders=senders))
    for name, kind in KINDS.items():
        if account := service(kind, group(found, name), senders=senders):
            reading.accounts.append(account)
    if mailer not in KINDS and mailer not in ("smtp", "mail"):
        reading.problem(0, unsupported(mailer))
    return reading


def locked(plugin: str) -> str:
    return _("%(plugin)s keeps this password locked with a key of its own site. Enter the password below.") % {"plugin": plugin}


def fluent_smtp(found: Mapping[str, Any]) -> Reading | None:
    connections = group(found, "connections")
    settings = {name: group(each, "provider_settings") for name, each in connections.items()}
    if not any("provider" in each for each in settings.values()):
        return None
    reading = Reading("fluent_smtp")
    kept = words(found.get("use_encrypt")).lower() not in YES
    if not kept:
        reading.problem(0, locked("FluentSMTP"))
    for name, each in settings.items():
        provider = words(each.get("provider"))
        label, senders = group(connections, name).get("title"), each.get("sender_email")
        if provider == "smtp":
            user, password = login(each.get("auth"), each.get("username"), each.get("password") if kept else "")
            account: Account | None = smtp(
                each.get("host"), each.get("port"), each.get("encryption"), user, password, name=label, senders=senders
            )
        else:
            account = service(KINDS[provider], each, name=label, senders=senders, kept=kept) if provider in KINDS else None
        if account:
            reading.accounts.append(account)
        elif provider not in KINDS:
            reading.problem(0, unsupported(provider))
    return reading


def post_smtp(found: Mapping[str, Any]) -> Reading | None:
    if not {"transport_type", "hostname", "basic_auth_username"} & found.keys() or "sender_email" not in found:
        return None
    reading = Reading("post_smtp")
    senders = found.get("sender_email")
    if words(found.get("hostname")):
        user, password = login(found.get("auth_type"), found.get("basic_auth_username"), opened(found.get("basic_auth_password")))
        reading.accounts.append(smtp(found["hostname"], found.get("port"), found.get("enc_type"), user, password, senders=senders))
    for name, kind in KINDS.items():
        keys = {key.removeprefix(f"{name}_"): opened(value) for key, value in found.items() if key.startswith(f"{name}_")}
        if "domain_name" in keys:
            keys["domain_name"] = words(found.get(f"{name}_domain_name"))
        if account := service(kind, keys, senders=senders):
            reading.accounts.append(account)
    return reading


def easy_wp_smtp(found: Mapping[str, Any]) -> Reading | None:
    server = group(found, "smtp_settings")
    if "host" not in server:
        return None
    reading = Reading("easy_wp_smtp")
    is_locked = words(server.get("encrypt_pass")).lower() in YES
    if is_locked:
        reading.problem(0, locked("Easy WP SMTP"))
    user, password = login(server.get("autentication"), server.get("username"), "" if is_locked else opened(server.get("password")))
    senders = found.get("from_email_field")
    reading.accounts.append(smtp(server["host"], server.get("port"), server.get("type_encryption"), user, password, senders=senders))
    return reading


def smtp_mailer(found: Mapping[str, Any]) -> Reading | None:
    if "smtp_host" not in found or "type_of_encryption" not in found:
        return None
    user, password = login(found.get("smtp_auth"), found.get("smtp_username"), opened(found.get("smtp_password")))
    account = smtp(found["smtp_host"], found.get("smtp_port"), found["type_of_encryption"], user, password, senders=found.get("from_email"))
    return Reading("smtp_mailer", [account])


def wp_smtp(found: Mapping[str, Any]) -> Reading | None:
    if "host" not in found or "smtpsecure" not in found:
        return None
    user, password = login(found.get("smtpauth"), found.get("username"), found.get("password"))
    return Reading("wp_smtp", [smtp(found["host"], found.get("port"), found["smtpsecure"], user, password, senders=found.get("from"))])


# ----------------------------------------------------------------------------------------------------------- listmonk and others


def listmonk(found: Mapping[str, Any]) -> Reading | None:
    """The settings that its API gives, or [smtp.…] of a config.toml."""
    given = group(found, "data").get("smtp", found.get("smtp"))
    servers: list[tuple[Any, Any]] = []
    if isinstance(given, list):
        servers = [("", each) for each in given]
    elif isinstance(given, Mapping):
        servers = list(given.items())
    servers = [(name, each) for name, each in servers if isinstance(each, Mapping) and "host" in each]
    if not servers:
        return None
    reading = Reading("listmonk")
    for name, each in servers:
        # Its API shows marks in place of the password.
        masked = bool(re.fullmatch(r"[•*]+", words(each.get("password"))))
        if masked:
            reading.problem(0, locked("listmonk"))
        logs_in = words(each.get("auth_protocol")).lower() not in CLEAR - {"plain"}
        user, password = (each.get("username"), "" if masked else each.get("password")) if logs_in else ("", "")
        kind = {"tls": "ssl"}.get(words(each.get("tls_type")).lower(), each.get("tls_type"))
        more = {"ehlo_name": each.get("hello_hostname"), "max_connections": each.get("max_conns")}
        reading.accounts.append(smtp(each["host"], each.get("port"), kind, user, password, name=each.get("name") or name, more=more))
    return reading


# What programs and people call the columns of a table, or the names of an object, in NFKC and lower case without spaces, - and _.
HEADINGS = {
    **dict.fromkeys(["name", "title", "label", "relay", "account", "名前", "名称", "リレー", "リレー名"], "name"),
    **dict.fromkeys(
        ["host", "server", "hostname", "smtphost", "smtpserver", "サーバー", "サーバ", "サーバー名", "ホスト", "ホスト名", "smtpサーバー"],
        "host",
    ),
    **dict.fromkeys(["port", "smtpport", "ポート", "ポート番号"], "port"),
    **dict.fromkeys(["encryption", "security", "secure", "tls", "ssl", "暗号化", "暗号化方式", "セキュリティ"], "security"),
    **dict.fromkeys(
        ["username", "user", "login", "smtpuser", "smtpusername", "ユーザー名", "ユーザ名", "ユーザー", "アカウント", "ログイン"],
        "username",
    ),
    **dict.fromkeys(["password", "pass", "smtppass", "smtppassword", "パスワード"], "password"),
    **dict.fromkeys(["from", "sender", "fromaddress", "fromemail", "差出人", "送信者"], "senders"),
    **dict.fromkeys(["connections", "maxconnections", "同時接続数", "接続数"], "max_connections"),
    **dict.fromkeys(["perminute", "limitperminute", "1分の上限", "毎分の上限", "分の上限", "1分あたり"], "minute"),
    **dict.fromkeys(["perhour", "limitperhour", "hourlylimit", "1時間の上限", "毎時の上限", "時間の上限", "1時間あたり"], "hour"),
    **dict.fromkeys(["perday", "limitperday", "dailylimit", "1日の上限", "毎日の上限", "日の上限", "1日あたり"], "day"),
    **dict.fromkeys(["permonth", "limitpermonth", "monthlylimit", "1か月の上限", "毎月の上限", "月の上限"], "month"),
}
PERIODS = ("minute", "hour", "day", "month")


def heading(name: str) -> str:
    return HEADINGS.get(re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", name).lower()), "")


def row(given: Mapping[str, Any], reading: Reading, line: int) -> None:
    """An account by HEADINGS. A limit that is none is a problem; the account is there all the same."""
    limits = []
    for period in PERIODS:
        digits = unicodedata.normalize("NFKC", words(given.get(period))).replace(",", "").strip()
        if re.fullmatch(r"[1-9][0-9]{0,8}", digits):
            limits.append((int(digits), period))
        elif digits:
            reading.problem(line, _("A limit is a whole number from 1; this one was left out."))
    more = {"max_connections": given.get("max_connections")}
    known = [given.get(name) for name in ("host", "port", "security", "username", "password")]
    account = smtp(*known, name=given.get("name"), senders=given.get("senders"), more=more)
    reading.accounts.append(replace(account, limits=tuple(limits)))


def plain_object(found: Mapping[str, Any]) -> Reading | None:
    """As nodemailer and many scripts have it: host, port, and who logs in."""
    who = group(found, "auth")
    given = {heading(str(name)): value for name, value in {**found, **who}.items()}
    if not words(given.get("host")) or not {"port", "username"} & given.keys():
        return None
    if "secure" in found and words(given["security"]) in ("true", "false"):
        given["security"] = "ssl" if given["security"] is True else ""
    reading = Reading("json")
    row(given, reading, 0)
    return reading


SHAPES: tuple[Callable[[Mapping[str, Any]], Reading | None], ...] = (
    wp_mail_smtp, fluent_smtp, post_smtp, easy_wp_smtp, smtp_mailer, wp_smtp, listmonk, plain_object,
)  # fmt: skip


def recognised(found: Any) -> Reading | None:
    """An option's value, or several in a list: as they are, or as `wp option list` writes them."""
    if isinstance(found, Mapping):
        return next(filter(None, (shape(found) for shape in SHAPES)), None)
    if not isinstance(found, list):
        return None
    whole: Reading | None = None
    for each in found[:1000]:
        value = each.get("option_value", each) if isinstance(each, Mapping) else None
        part = structured(value) if isinstance(value, str) else recognised(value) if isinstance(value, Mapping) else None
        if part:
            whole = whole or Reading(part.format)
            whole.accounts += part.accounts
            whole.problems += part.problems
    return whole


# Not [smtp] or [smtp.example.com], which other files begin with.
JSON = re.compile(r'\s*(?:\{|\[\s*[{"\]])')


def structured(text: str) -> Reading | None:
    """JSON, or what PHP's serialize() wrote; None where it is neither."""
    if JSON.match(text):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            return broken("JSON", error.lineno)
        except (ValueError, RecursionError):
            return broken("JSON", 1)
        return recognised(found)
    if php.SERIALIZED.match(text):
        try:
            return recognised(php.unserialize(text))
        except php.Malformed as error:
            return broken("PHP", error.line)
    return None


def broken(language: str, line: int) -> Reading:
    reading = Reading("broken")
    reading.problem(line, _("From here on it is no %(language)s. Perhaps it was not copied whole.") % {"language": language})
    return reading


def toml(text: str) -> Reading | None:
    if not re.search(r"(?m)^[ \t]*\[{1,2}[ \t]*smtp\b[^\]\n]*\]{1,2}[ \t]*(#.*)?$", text):
        return None
    for number, line in enumerate(text.splitlines(), 1):
        # The time that tomllib takes for a name of many parts grows with the square of their number.
        if len(line) > 1_000:
            return broken("TOML", number)
    try:
        return listmonk(tomllib.loads(text))
    except ValueError as error:
        place = re.search(r"at line (\d+)", str(error))
        return broken("TOML", int(place[1]) if place else 0)
    except RecursionError:
        return broken("TOML", 0)


# ------------------------------------------------------------------------------------------------------------------ wp-config.php

# The constants whose names say something else than group and option.
CONSTANTS = {
    "WPMS_MAILER": ("mail", "mailer"),
    "WPMS_MAIL_FROM": ("mail", "from_email"),
    "WPMS_SSL": ("smtp", "encryption"),
    "WPMS_SMTP_AUTOTLS": ("smtp", "autotls"),
}


def wp_config(text: str) -> Reading | None:
    if "WPMS_" not in text:
        return None
    found: dict[str, dict[str, Any]] = {"mail": {}, "smtp": {}}
    unread: list[tuple[int, str]] = []
    for line, name, value in php.constants(text):
        part, _sign, option = name.removeprefix("WPMS_").lower().partition("_")
        if name not in CONSTANTS and (not name.startswith("WPMS_") or not option):
            continue
        if value is ...:
            unread.append((line, name))
            continue
        part, option = CONSTANTS.get(name, (part, option))
        found.setdefault(part, {})[option] = value
    if not unread and not any(found.values()):
        return None
    # Constants are what was typed: nothing is locked. WP Mail SMTP knows nothing else where they name no mailer.
    password = words(found["smtp"].pop("pass", ""))
    reading = wp_mail_smtp({**found, "mail": {"mailer": "smtp", **found["mail"]}}) or Reading()
    reading.format = "wp_config"
    if password:
        reading.accounts = [
            replace(each, fields={**each.fields, "password": password})
            if each.kind == "smtp" and words(found["smtp"].get("auth")).lower() not in CLEAR
            else each
            for each in reading.accounts
        ]
    for line, name in unread:
        reading.problem(line, worked_out(name))
    return reading


# --------------------------------------------------------------------------------------------------- Django, and lines NAME=value

HOST_NAMES = re.compile(
    r"(?P<prefix>(?:[A-Z0-9_]*_)?(?:E?MAIL(?:ER)?|SMTP)(?:_[A-Z0-9]+)*?_)(?P<what>HOST|SERVER|ADDRESS|HOSTNAME|SMTP_HOST|SMTP_SERVER)"
)
ROLES = {
    "port": ("PORT",),
    "username": ("HOST_USER", "USERNAME", "USER", "LOGIN", "USER_NAME"),
    "password": ("HOST_PASSWORD", "PASSWORD", "PASS"),
    "security": ("ENCRYPTION", "SECURITY", "SCHEME", "TLS_TYPE"),
    "ehlo_name": ("EHLO_DOMAIN", "DOMAIN"),
}
# Where a program says yes or no.
FLAGS = {
    "ssl": ("USE_SSL", "SSL", "ENABLE_SSL", "SECURE", "FORCE_TLS"),
    "tls": ("USE_TLS", "TLS", "STARTTLS", "USE_STARTTLS", "ENABLE_STARTTLS", "ENABLE_STARTTLS_AUTO"),
}
FROM = re.compile(r"[A-Z0-9_]*(FROM|DEFAULT_FROM_EMAIL|FROM_ADDRESS|FROM_EMAIL|SENDER|SERVER_EMAIL)")
# Of a Symfony or Django address: the scheme, and what user and password are for the service.
SCHEMES = {
    "mailgun": ("api_key", "sender_domain"),
    "ses": ("access_key_id", "secret_access_key"),
    "mailjet": ("api_key", "secret_key"),
    "scaleway": ("project_id", "secret_key"),
    "postmark": ("server_token", ""),
    "mailersend": ("api_token", ""),
    "mailtrap": ("api_token", ""),
    **dict.fromkeys(("sendgrid", "brevo", "sendinblue", "resend", "mandrill", "sparkpost"), ("api_key", "")),
}
URL = re.compile(r"(?:smtps?(?:\+(?:tls|ssl))?|submission|(?:" + "|".join(SCHEMES) + r")\+(?:api|https))://\S+", re.IGNORECASE)


def address(value: str, reading: Reading, line: int, senders: Any = ()) -> None:
    """An account as an address, such as smtp://user:password@host:587."""
    try:
        parts = urlsplit(value)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        parts, port, host = urlsplit(""), None, ""
    # A password with / or # in it ends the host too early.
    if not host or "@" in parts.path + parts.query + parts.fragment:
        advice = _("The address cannot be read. In user name and password write signs such as @ and / by their numbers: @ is %(at)s.")
        reading.problem(line, advice % {"at": "%40"})
        return
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    asked = {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=20).items()}
    scheme, _sign, way = parts.scheme.lower().partition("+")
    if scheme in SCHEMES:
        given = {**asked, "endpoint": host, **dict(zip(SCHEMES[scheme], (user, password), strict=True))}
        if account := service(KINDS[scheme], given, senders=senders):
            reading.accounts.append(account)
        return
    ssl = way == "ssl" or scheme == "smtps" or asked.get("ssl", "").lower() in YES or asked.get("encryption") == "ssl"
    reading.accounts.append(
        smtp(host, port or "", "ssl" if ssl else "tls" if way or "tls" in asked else "", user, password, senders=senders)
    )


def variables(found: Mapping[str, tuple[int, Any]], reading: Reading) -> None:
    """The accounts in settings that stand one by one: name, and line with value."""
    values = {name: value for name, (_line, value) in found.items()}
    senders = [value for name, value in values.items() if len(name) <= LONGEST_NAME and FROM.fullmatch(name)]
    for name, (line, value) in found.items():
        if len(name) > LONGEST_NAME:
            continue
        if isinstance(value, str) and URL.fullmatch(value.strip()):
            address(value.strip(), reading, line, senders)
            continue
        match = HOST_NAMES.fullmatch(name)
        if not match or not words(value) or "@" in words(value) or re.search(r"FROM|REPLY|IMAP|POP3?_", name):
            continue
        prefix = match["prefix"]
        given: dict[str, Any] = {
            role: next((values[prefix + end] for end in ends if prefix + end in values), "") for role, ends in ROLES.items()
        }
        for flag, ends in FLAGS.items():
            # Keila has its flags a step higher: MAILER_SMTP_HOST, but MAILER_ENABLE_SSL.
            names = [before + end for end in ends for before in (prefix, prefix.removesuffix("SMTP_")) if before]
            if not given["security"] and any(words(values.get(each)).lower() in YES for each in names):
                given["security"] = flag
        if words(given["security"]).lower() in CLEAR:
            # Laravel and others go over to STARTTLS all the same where the server has it.
            given["security"] = ""
        ehlo = words(given.pop("ehlo_name"))
        more = {"ehlo_name": ehlo} if "." in ehlo else {}
        reading.accounts.append(smtp(value, **given, senders=senders, more=more))
    by_mailer = {words(values.get(name)).lower() for name in ("MAIL_MAILER", "MAIL_DRIVER")}
    for name, kind in KINDS.items():
        # Keys of AWS are mostly for something else.
        names = [name, "aws"] if name == "ses" and "ses" in by_mailer else [name]
        keys = {
            key.lower().removeprefix(f"{each}_"): value
            for each in names
            for key, value in values.items()
            if key.lower().startswith(f"{each}_")
        }
        if kind == "amazon_ses":
            for params in ("client_params", "session_params"):
                keys.update(group(keys, params))
        if account := service(kind, keys, senders=senders):
            reading.accounts.append(account)


ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,100})=(?!\s)(.*)")


def env(text: str) -> Reading | None:
    """Lines NAME=value, as .env files have them, and an address on a line of its own."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith(("#", ";"))]
    matches = [(number, line, ENV_LINE.fullmatch(line)) for number, line in lines]
    reading = Reading("env")
    found: dict[str, tuple[int, Any]] = {}
    for number, line, match in matches:
        if match:
            value = unquoted(match[2])
            if "${" in value:
                reading.problem(number, worked_out(match[1]))
            else:
                found[match[1].upper()] = (number, value)
        elif URL.fullmatch(line):
            found[f"LINE {number}"] = (number, line)
    if sum(1 for _number, line, match in matches if match or URL.fullmatch(line)) * 2 < len(lines):
        return None
    variables(found, reading)
    for number, line, match in matches:
        if not match and not URL.fullmatch(line) and reading.accounts and not re.fullmatch(r"[A-Za-z_]\w*=", line):
            reading.problem(number, _("This line is not NAME=value; it was left out."))
    return reading if reading.accounts or any(re.search("MAIL|SMTP", name) for name in found) else None


def unquoted(value: str) -> str:
    if match := re.match(r"'([^']*)'", value):
        return match[1]
    if match := re.match(r'"((?:[^"\\]|\\.)*)"', value):
        return re.sub(r'\\(["\\$])', r"\1", match[1])
    return re.split(r"\s#", value, maxsplit=1)[0].strip()


def django(text: str) -> Reading | None:
    """Settings in Python: read, never run."""
    if not re.search(r"(?m)^[ \t]*(EMAIL_\w+|ANYMAIL|\w+_(API_KEY|TOKEN|SERVER_TOKEN|API_TOKEN))[ \t]*=", text):
        return None
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return broken("Python", error.lineno or 0)
    except (ValueError, RecursionError, MemoryError):
        return broken("Python", 0)
    reading = Reading("django")
    found: dict[str, tuple[int, Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "ANYMAIL" and isinstance(node.value, ast.Dict):
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        literal(key.value, value, found, reading)
            elif re.match(r"EMAIL_|MAIL|DEFAULT_FROM_EMAIL|SERVER_EMAIL|" + "|".join(kind.upper() + "_" for kind in KINDS), name):
                literal(name, node.value, found, reading)
    variables({name.removeprefix("ANYMAIL_"): each for name, each in found.items()}, reading)
    return reading


def literal(name: str, node: ast.expr, found: dict[str, tuple[int, Any]], reading: Reading) -> None:
    try:
        found[name] = (node.lineno, ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        if re.search(r"HOST|PASSWORD|USER|PORT|KEY|TOKEN|SECRET|URL", name):
            reading.problem(node.lineno, worked_out(words(name)))


# ---------------------------------------------------------------------------------------------------- mail servers and senders

RELAYHOST = re.compile(r"^\s*(?:relayhost\s*=\s*)?(\[[^\[\]\s]+\]|[\w.-]+)(?::(\w+))?\s*$")
# A line of sasl_passwd: for which server, and user:password.
SASL = re.compile(r"(\[[^\[\]\s]+\](?::\w{1,10})?|[\w.@-]+(?::\w{1,10})?)\s+([^\s:]+):(\S.*)")
PORTS = {"submission": "587", "submissions": "465", "smtps": "465", "smtp": "25"}


def postfix(text: str) -> Reading | None:
    """relayhost and its like of main.cf, the lines of sasl_passwd, or both."""
    settings: dict[str, str] = {}
    logins: list[tuple[int, str, str, str]] = []
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.strip()
        if line.startswith("#"):
            continue
        if match := re.fullmatch(r"(relayhost|smtp_tls_\w+|smtp_use_tls|smtp_sasl_\w+)\s*=\s*(.*)", line):
            settings[match[1]] = match[2]
        elif (match := SASL.fullmatch(line)) and re.search(r"[\[.:@]", match[1]):
            logins.append((number, match[1], match[2], match[3]))
    relayhost = settings.get("relayhost", "")
    if not relayhost and not (logins and any("[" in server or re.search(r":\w+$", server) for _n, server, _user, _password in logins)):
        return None
    reading = Reading("postfix")
    security = "ssl" if settings.get("smtp_tls_wrappermode") == "yes" else ""
    if settings.get("smtp_tls_security_level") == "none" or settings.get("smtp_use_tls") == "no":
        security = "none"
    served = False
    for number, server, user, password in logins:
        # Keyed by the sender's address, it is for the relayhost.
        senders = server if "@" in server else ""
        host = (relayhost if senders else server).strip()
        if not host:
            reading.problem(number, _("This line names a sender, and no line “relayhost = ” says for which server."))
            continue
        served = served or host == relayhost
        reading.accounts.append(smtp(*nexthop(host), security, user, password, senders=senders))
    if relayhost and not served:
        if match := re.fullmatch(r"static:(\S+?):(\S+)", settings.get("smtp_sasl_password_maps", "")):
            reading.accounts.append(smtp(*nexthop(relayhost), security, match[1], match[2]))
        else:
            reading.accounts.append(smtp(*nexthop(relayhost), security))
    return reading


def nexthop(server: str) -> tuple[str, str]:
    """Host and port; Postfix takes 25 where none is given."""
    match = RELAYHOST.match(server)
    if not match:
        return server, ""
    port = match[2] or "25"
    return match[1], PORTS.get(port, port)


MSMTP = frozenset({"host", "port", "tls", "tls_starttls", "auth", "user", "password", "domain", "from"})


def msmtp(text: str) -> Reading | None:
    if not re.search(r"(?m)^[ \t]*host[ \t]+\S", text) or not re.search(r"(?m)^[ \t]*(account|defaults|auth|user|tls|port)\b", text):
        return None
    reading = Reading("msmtp")
    accounts: dict[str, dict[str, str]] = {}
    defaults: dict[str, str] = {}
    current = accounts.setdefault("", {})
    for number, line in enumerate(text.splitlines(), 1):
        word, _sign, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not word or word.startswith("#"):
            continue
        if word == "defaults":
            current = defaults
        elif word == "account":
            name, _colon, others = (part.strip() for part in rest.partition(":"))
            current = accounts[name] = dict(defaults)
            for other in others.split(","):
                current.update(accounts.get(other.strip(), {}))
        elif word == "passwordeval":
            reading.problem(number, worked_out(word))
        elif word in MSMTP:
            current[word] = rest[1:-1] if len(rest) > 1 and rest[0] == rest[-1] == '"' else rest
    for name, given in accounts.items():
        # "account default : work" is another name of one that is there.
        if "host" not in given or (name == "default" and given in [each for other, each in accounts.items() if other != name]):
            continue
        security = "none"
        if given.get("tls", "off") == "on":
            security = "ssl" if given.get("tls_starttls", "on") == "off" else "tls"
        user, password = ("", "") if given.get("auth", "off") == "off" else (given.get("user", ""), given.get("password", ""))
        more = {"ehlo_name": given.get("domain", "")} if given.get("domain", "localhost") != "localhost" else {}
        label = "" if name == "default" else name
        port = given.get("port", "")
        reading.accounts.append(smtp(given["host"], port, security, user, password, name=label, senders=given.get("from"), more=more))
    return reading


def ssmtp(text: str) -> Reading | None:
    lines = re.findall(r"(?mi)^[ \t]*(mailhub|AuthUser|AuthPass|UseTLS|UseSTARTTLS)[ \t]*=(.*)$", text)
    given = {name.lower(): value.strip() for name, value in lines}
    if not given.get("mailhub"):
        return None
    starttls = given.get("usestarttls", "").lower() in YES
    security = "tls" if starttls else "ssl" if given.get("usetls", "").lower() in YES else ""
    return Reading("ssmtp", [smtp(given["mailhub"], "", security, given.get("authuser"), given.get("authpass"))])


def nullmailer(text: str) -> Reading | None:
    """Its file “remotes”."""
    if not re.search(r"(?m)^\S+\s+smtp\b.*--(user|port|pass|starttls|ssl)", text):
        return None
    reading = Reading("nullmailer")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            parts = shlex.split(line, comments=True)
        except ValueError:
            reading.problem(number, _("A quotation mark is not closed."))
            continue
        if len(parts) < 2 or parts[1] != "smtp":
            continue
        given = {name: value for name, _sign, value in (part.removeprefix("--").partition("=") for part in parts[2:])}
        security = "ssl" if "ssl" in given and "starttls" not in given else "tls" if "starttls" in given else ""
        reading.accounts.append(smtp(parts[0], given.get("port"), security, given.get("user"), given.get("pass")))
    return reading


# ------------------------------------------------------------------------------------------------------------------------- tables


def table(text: str) -> Reading | None:
    """CSV, by its headings."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    columns = [heading(cell.strip(' "')) for cell in first.split(delimiter)]
    if "host" not in columns or len(columns) < 2:
        return None
    reading = Reading("csv")
    parsed = csv.reader(io.StringIO(text.lstrip("\n")), delimiter=delimiter, strict=True)
    skipped = len(text) - len(text.lstrip("\n"))
    for name in [name for name, count in Counter(filter(None, columns)).items() if count > 1]:
        reading.problem(skipped + 1, _("Two columns are for the same: “%(column)s”. The last one counts.") % {"column": name})
    try:
        next(parsed)
        for cells in parsed:
            given = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if name}
            if not any(cell.strip() for cell in cells):
                continue
            if not given.get("host"):
                reading.problem(skipped + parsed.line_num, _("The server is missing; the row was left out."))
                continue
            row(given, reading, skipped + parsed.line_num)
    except (csv.Error, StopIteration):
        where = skipped + parsed.line_num
        reading.problem(where, _("From here on it is no CSV. Perhaps a quotation mark is missing here or before."))
    return reading


# ------------------------------------------------------------------------------------------------------------------ what is known


@dataclass(frozen=True, slots=True)
class Format:
    label: str | Promise
    read: Callable[[str], Reading | None]
    #: a short one, to be shown where nothing was found
    example: str


# In the order in which they are tried: from what can be mistaken for nothing else to what many things look like.
FORMATS: Mapping[str, Format] = {
    "wp_config": Format(
        gettext_lazy("WP Mail SMTP's constants in wp-config.php"),
        wp_config,
        "define( 'WPMS_ON', true );\ndefine( 'WPMS_MAILER', 'smtp' );\ndefine( 'WPMS_SMTP_HOST', 'smtp.example.com' );\n"
        "define( 'WPMS_SMTP_PORT', 587 );\ndefine( 'WPMS_SMTP_USER', 'shop' );\ndefine( 'WPMS_SMTP_PASS', '…' );",
    ),
    "options": Format(
        gettext_lazy("Options of WordPress plugins, of listmonk or nodemailer: JSON, or PHP's own form"),
        structured,
        "wp option get wp_mail_smtp --format=json\nwp option get fluentmail-settings --format=json\n"
        "wp option get postman_options --format=json\nwp option get swpsmtp_options --format=json",
    ),
    "toml": Format(
        gettext_lazy("listmonk's config.toml"), toml, '[smtp.main]\nhost = "smtp.example.com"\nport = 587\ntls_type = "STARTTLS"'
    ),
    "csv": Format(
        gettext_lazy("A table (CSV)"),
        table,
        "name,host,port,encryption,username,password,per hour,per day\nShop,smtp.example.com,587,starttls,shop,…,500,5000",
    ),
    "msmtp": Format(
        gettext_lazy("msmtp's accounts"), msmtp, "account shop\nhost smtp.example.com\nport 587\ntls on\nauth on\nuser shop\npassword …"
    ),
    "nullmailer": Format(
        gettext_lazy("nullmailer's remotes"), nullmailer, "smtp.example.com smtp --port=587 --starttls --user=shop --pass=…"
    ),
    "ssmtp": Format(gettext_lazy("ssmtp.conf"), ssmtp, "mailhub=smtp.example.com:587\nUseSTARTTLS=YES\nAuthUser=shop\nAuthPass=…"),
    "postfix": Format(
        gettext_lazy("Postfix: relayhost and sasl_passwd"),
        postfix,
        "relayhost = [smtp.example.com]:587\n\n[smtp.example.com]:587 shop:…",
    ),
    "env": Format(
        gettext_lazy("Variables (.env): Laravel, Symfony, Rails, Django, Keila and others"),
        env,
        "MAIL_HOST=smtp.example.com\nMAIL_PORT=587\nMAIL_USERNAME=shop\nMAIL_PASSWORD=…\n\nMAILER_DSN=smtp://shop:…@smtp.example.com:587",
    ),
    "django": Format(
        gettext_lazy("Django's settings"),
        django,
        'EMAIL_HOST = "smtp.example.com"\nEMAIL_PORT = 587\nEMAIL_USE_TLS = True\nEMAIL_HOST_USER = "shop"\n\n'
        'ANYMAIL = {"POSTMARK_SERVER_TOKEN": "…"}',
    ),
}

# In the order in which people look for theirs.
SHOWN = ("wp_config", "options", "env", "django", "postfix", "csv", "toml", "msmtp", "ssmtp", "nullmailer")
# What a text can turn out to be, more exactly than by the way it is read.
LABELS: Mapping[str, str | Promise] = {
    **{key: known.label for key, known in FORMATS.items()},
    "wp_mail_smtp": gettext_lazy("settings of WP Mail SMTP or Easy WP SMTP"),
    "fluent_smtp": gettext_lazy("settings of FluentSMTP"),
    "post_smtp": gettext_lazy("settings of Post SMTP"),
    "easy_wp_smtp": gettext_lazy("settings of Easy WP SMTP 1"),
    "smtp_mailer": gettext_lazy("settings of SMTP Mailer"),
    "wp_smtp": gettext_lazy("settings of WP SMTP"),
    "listmonk": gettext_lazy("listmonk's servers"),
    "json": gettext_lazy("JSON with host, port and who logs in"),
    "broken": gettext_lazy("a text that breaks off"),
}
