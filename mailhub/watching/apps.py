from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.apps.registry import Apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class WatchingConfig(AppConfig):
    name = "mailhub.watching"
    verbose_name = _("Watching")

    def ready(self) -> None:
        post_migrate.connect(load_shipped, sender=self)


def load_shipped(apps: Apps = apps, **kwargs: Any) -> None:
    """After every migration, since a new version of MailHub may know more rules."""
    from mailhub.watching import rules

    # When migrations are taken back there may be no table any more.
    if any(model._meta.label == "watching.Rule" for model in apps.get_models()):
        rules.load()
