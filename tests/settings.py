"""MailHub's own settings with secrets that exist for tests alone. DATABASE_URL chooses the database: SQLite, or a PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("DEBUG", "true")
os.environ.setdefault("SECRET_KEY", "tests-only-7c0f1d9a2b5e48d3a6f0c4b1e2d3f4a5")
os.environ.setdefault("MAILHUB_ENCRYPTION_KEYS", "dGVzdHMtb25seS0wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ=")
# Servers that tests start are on this machine; nothing may be asked of others.
os.environ.setdefault("MAILHUB_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8,::1/128")
os.environ.setdefault("MAILHUB_DNS_SERVERS", "127.0.0.1:9")

from mailhub.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Static files are read where they lie: tests collect none.
WHITENOISE_AUTOREFRESH = True

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    # A file, as in real use: SQLite's shared memory knows no waiting, so threads would fail where they should take turns.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"mailhub-test-{os.getpid()}.sqlite3")}  # noqa: F405
    # Nothing of it need survive a power cut.
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"  # noqa: F405
