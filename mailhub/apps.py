from __future__ import annotations

from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig


class MailHubConfig(AppConfig):
    name = "mailhub"

    def ready(self) -> None:
        from mailhub import checks  # noqa: F401  registers the system checks


class MailHubAdminConfig(AdminConfig):
    default_site = "mailhub.admin.MailHubAdminSite"

    def ready(self) -> None:
        super().ready()
        from django.contrib import admin

        from mailhub import accounts  # noqa: F401  in place of Django's own admins of users and groups

        # Who may edit django-q2's tables may have any function called: nobody in the admin may.
        for model in apps.get_app_config("django_q").get_models():
            if admin.site.is_registered(model):
                admin.site.unregister(model)
