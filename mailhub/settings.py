"""Settings come from the environment alone, `.env` included. What an operator changes while MailHub runs is a row, not a setting."""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from mailhub.lib import dotenv, envvars

# Lets ModelAdmin[Relay] and the like stand in code that runs.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = re.findall(r"^## (\d+\.\d+\.\d+)", (BASE_DIR / "CHANGELOG.md").read_text(), re.MULTILINE)[0]

env = environ.Env()
env.read_env(BASE_DIR / ".env")

# True on a developer's machine only: pages show tracebacks, missing secrets are made and kept in .env.
DEBUG = envvars.boolean("DEBUG", default=False)

# Names of secrets that production lacks; mailhub/checks.py turns each into an error that says what to set.
MISSING_SECRETS: list[str] = []


def secret(name: str) -> str:
    value: str = env.str(name, default="")
    if value:
        return value
    if DEBUG:
        return dotenv.keep(BASE_DIR / ".env", name, lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    MISSING_SECRETS.append(name)
    return secrets.token_urlsafe(32)


# Signs sessions, public links and task payloads.
SECRET_KEY = secret("SECRET_KEY")
# Earlier values of SECRET_KEY, newest first: links in mails already sent stay valid.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# Fernet keys (32 bytes, base64url) for relay credentials, newest first; `manage.py rotate_keys` re-encrypts with the first.
MAILHUB_ENCRYPTION_KEYS = [key.strip() for key in secret("MAILHUB_ENCRYPTION_KEYS").split(",")]

# Where recipients' browsers reach MailHub: the start of every unsubscribe link.
MAILHUB_PUBLIC_URL = envvars.url("MAILHUB_PUBLIC_URL", "http://127.0.0.1:8000", ["https", "http"])
PUBLIC_HTTPS = MAILHUB_PUBLIC_URL.startswith("https://")
PUBLIC_HOST = urlsplit(MAILHUB_PUBLIC_URL).hostname or ""

# Host names under which the admin and the public pages answer.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", PUBLIC_HOST])
CSRF_TRUSTED_ORIGINS = [MAILHUB_PUBLIC_URL]

INSTALLED_APPS = [
    "mailhub.apps.MailHubConfig",
    "mailhub.apps.MailHubAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_q",
    # The page that shows the HTTP API (its scripts and styles).
    "ninja",
    "mailhub.relays",
    "mailhub.senders",
    "mailhub.delivery",
    "mailhub.feedback",
    "mailhub.feedback.receivers",
    "mailhub.feedback.returns",
    "mailhub.webhooks",
    "mailhub.watching",
    "campaigns",
    "transactional",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mailhub.middleware.ContentSecurityPolicy",
    "mailhub.middleware.Shortcut",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mailhub.urls"
WSGI_APPLICATION = "mailhub.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database() -> dict[str, Any]:
    config: dict[str, Any] = env.db_url_config(env.str("DATABASE_URL", default="") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
    if config.get("ENGINE") == "django.db.backends.sqlite3":
        # IMMEDIATE: a transaction that will write takes the lock at its start, where it can wait, not half-way, where it
        # would fail. FULL: what was accepted survives a power cut.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    elif config.get("ENGINE") == "django.db.backends.postgresql":
        # Kept connections and never psycopg's pool: django-q2 forks, and forks must not share a socket.
        config |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
        # Each side notices within a minute that the other is cut off: what a machine has locked when it is would keep all others waiting,
        # for two hours by PostgreSQL's own measure. An address with ?options=... has its own way.
        config["OPTIONS"] = {
            "options": "-c idle_in_transaction_session_timeout=60s"
            " -c tcp_keepalives_idle=20s -c tcp_keepalives_interval=10s -c tcp_keepalives_count=3 -c tcp_user_timeout=50s",
            "connect_timeout": 10,
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 50_000,
            **config.get("OPTIONS", {}),
        }
    else:
        raise ImproperlyConfigured("The setting DATABASE_URL must begin with postgres:// or sqlite:///.")
    return config


# SQLite beside the code by default; postgres://user:password@host:port/name for real use.
DATABASES = {"default": database()}
# Columns that an index carries along (INCLUDE) serve PostgreSQL; SQLite goes without.
SILENCED_SYSTEM_CHECKS = ["models.W040"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A Redis for django-q2's tasks and the cache; without it both live in the database.
REDIS_URL = envvars.url("REDIS_URL", "", ["redis", "rediss", "unix"])
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

# Worker processes of each of the three queues; see docs/operations.md.
MAILHUB_WORKERS = envvars.whole("MAILHUB_WORKERS", default=2, least=1)


def queue(workers: int, **changes: Any) -> dict[str, Any]:
    # A task works for 15 s at most and then asks to be called again; `timeout` leaves room for a relay that takes a minute
    # over its last reply. mailhub/checks.py demands retry > timeout x (1 + ceil((queue_limit + bulk) / workers)).
    return {
        "workers": workers,
        "queue_limit": workers,
        "bulk": 1,
        "timeout": 120,
        "retry": 600,
        "max_attempts": 1,
        "ack_failures": True,
        "save_limit": -1,
        "catch_up": False,
        "recycle": 200,
        "max_rss": 300_000,
        "guard_cycle": 0.5,
        "poll": 0.2,
        **changes,
    }


Q_CLUSTER: dict[str, Any] = {
    "name": "bulk",
    "label": "MailHub",
    **queue(MAILHUB_WORKERS),
    **(
        {"redis": REDIS_URL, "broker_class": "mailhub.lib.brokers.RedisBroker"}
        if REDIS_URL
        else {"orm": "default", "broker_class": "mailhub.lib.brokers.DatabaseBroker"}
    ),
    # django-q2 reads no entry of the base's own name here.
    "ALT_CLUSTERS": {
        "transactional": queue(MAILHUB_WORKERS, poll=0.05),
        "maintenance": queue(1),
    },
}

# Name servers to ask; without any, the system's.
MAILHUB_DNS_SERVERS = envvars.servers("MAILHUB_DNS_SERVERS", 53)
# True where they check DNSSEC and nobody can meddle on the way to them (same machine): TLSA records are obeyed then (DANE).
MAILHUB_DNS_VALIDATES = envvars.boolean("MAILHUB_DNS_VALIDATES", default=False)
# A copy of an installation, to be tried out: nothing leaves.
MAILHUB_DO_NOT_SEND = envvars.boolean("MAILHUB_DO_NOT_SEND", default=False)
# Private, loopback and other special networks that outgoing connections may lead into all the same (mailhub/lib/dialer.py).
MAILHUB_ALLOW_PRIVATE_ADDRESSES = envvars.networks("MAILHUB_ALLOW_PRIVATE_ADDRESSES")

# SMTP submission (manage.py smtpd): the name by which MailHub is known there, and on which addresses of this machine it listens.
MAILHUB_SMTPD_NAME = env.str("MAILHUB_SMTPD_NAME", default="") or PUBLIC_HOST
MAILHUB_SMTPD_ADDRESSES = envvars.addresses("MAILHUB_SMTPD_ADDRESSES", "127.0.0.1" if DEBUG else "0.0.0.0,::")
# Its ports, with STARTTLS and with TLS from the first byte; 0 is none.
MAILHUB_SMTPD_PORT = envvars.whole("MAILHUB_SMTPD_PORT", default=2587 if DEBUG else 587, least=0)
MAILHUB_SMTPD_TLS_PORT = envvars.whole("MAILHUB_SMTPD_TLS_PORT", default=2465 if DEBUG else 465, least=0)
# PEM files: the certificate with those between it and its authority, and the key (in the same file where none is named).
MAILHUB_SMTPD_CERTIFICATE = env.str("MAILHUB_SMTPD_CERTIFICATE", default="")
MAILHUB_SMTPD_KEY = env.str("MAILHUB_SMTPD_KEY", default="")
# Networks from which clients may log in without TLS.
MAILHUB_SMTPD_CLEAR_NETWORKS = envvars.networks("MAILHUB_SMTPD_CLEAR_NETWORKS")
# Connections at once, a fifth of them from one address; recipients a minute for each credential (0: any number). Both in each process.
MAILHUB_SMTPD_CONNECTIONS = envvars.whole("MAILHUB_SMTPD_CONNECTIONS", default=500, least=1)
MAILHUB_SMTPD_RATE = envvars.whole("MAILHUB_SMTPD_RATE", default=6000, least=0)

# Opens and clicks: who did ("people"), only how many did ("anonymous"), or nothing at all ("off").
MAILHUB_TRACKING = envvars.choice("MAILHUB_TRACKING", "people", ["people", "anonymous", "off"])
# Keep from all mail, or from campaigns alone, who calls a campaign spam.
MAILHUB_COMPLAINTS_STOP = envvars.choice("MAILHUB_COMPLAINTS_STOP", "all", ["all", "campaign"])
# A mailbox that took nothing is suppressed after so many mails (0: never) within so many days; and for how many days.
MAILHUB_SOFT_BOUNCES = envvars.whole("MAILHUB_SOFT_BOUNCES", default=5, least=0)
MAILHUB_SOFT_BOUNCE_DAYS = envvars.whole("MAILHUB_SOFT_BOUNCE_DAYS", default=30, least=1)
MAILHUB_SOFT_SUPPRESSION_DAYS = envvars.whole("MAILHUB_SOFT_SUPPRESSION_DAYS", default=90, least=1)

# HTTP API: requests a minute for each key, all processes together (0: any number).
MAILHUB_API_RATE = envvars.whole("MAILHUB_API_RATE", default=6000, least=0)
# Networks of our own proxies, whose X-Forwarded-For tells who asks (lib/clients.py); without any, who is connected is who asks.
MAILHUB_TRUSTED_PROXIES = envvars.networks("MAILHUB_TRUSTED_PROXIES")

# Bounces by SMTP (manage.py bounced): the port on which it listens, on the addresses and with the name and certificate of manage.py smtpd.
MAILHUB_BOUNCED_PORT = envvars.whole("MAILHUB_BOUNCED_PORT", default=2525 if DEBUG else 25, least=1)
# Addresses at bounce domains that it takes mail for beside return paths: those named in DMARC and TLS-RPT records, for feedback loops.
MAILHUB_REPORT_ADDRESSES = [address.strip().lower() for address in env.list("MAILHUB_REPORT_ADDRESSES", default=[])]

# After so many days the words of transactional mail are forgotten (they may hold password-reset links); facts stay longer.
MAILHUB_KEEP_BODIES_DAYS = envvars.whole("MAILHUB_KEEP_BODIES_DAYS", default=30, least=1)
# After so many days a settled message is forgotten with its attempts and events; a campaign's totals stay.
MAILHUB_KEEP_MESSAGES_DAYS = envvars.whole("MAILHUB_KEEP_MESSAGES_DAYS", default=400, least=1)

# Language and time zone of pages and mails where a person has not chosen another.
LANGUAGE_CODE = envvars.choice("LANGUAGE_CODE", "en", ["en", "ja"])
LANGUAGES = [("en", _("English")), ("ja", _("Japanese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["mailhub.formats"]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# MailHub's own mails (password reset) take its own transactional door; their From must be a confirmed sender.
EMAIL_BACKEND = "transactional.backend.EmailBackend"
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="mailhub@localhost")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"

# Behind a proxy that sets X-Forwarded-Proto.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PUBLIC_HTTPS else None
SECURE_SSL_REDIRECT = PUBLIC_HTTPS
# Load balancers ask these over plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SESSION_COOKIE_SECURE = PUBLIC_HTTPS
CSRF_COOKIE_SECURE = PUBLIC_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = PUBLIC_HTTPS
SECURE_HSTS_PRELOAD = PUBLIC_HTTPS
X_FRAME_OPTIONS = "DENY"

# One JSON object a line on standard error ("text" for people); see mailhub/logs.py for what never gets in.
LOG_FORMAT = envvars.choice("LOG_FORMAT", "text" if DEBUG else "json", ["text", "json"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        },
        "text": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
    },
    "handlers": {"stderr": {"class": "mailhub.logs.Handler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Django's own handlers would say everything twice.
        "django": {"handlers": [], "level": "INFO"},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        "django-q": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
    },
}
