from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class MailHubClientConfig(AppConfig):
    """With "mailhub_client" in INSTALLED_APPS come the system check and the outbox; sending goes without."""

    name = "mailhub_client"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "MailHub"

    def ready(self) -> None:
        from mailhub_client.checks import check

        checks.register(check)
