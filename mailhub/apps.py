from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class MailHubConfig(AppConfig):
    name = "mailhub"

    def ready(self) -> None:
        from mailhub import checks  # noqa: F401  registers the system checks


class MailHubAdminConfig(AdminConfig):
    default_site = "mailhub.admin.MailHubAdminSite"
