"""MailHub as Django's mail backend: `EMAIL_BACKEND = "mailhub_client.EmailBackend"`."""

from __future__ import annotations

from mailhub_client.backend import EmailBackend

__all__ = ["EmailBackend"]
