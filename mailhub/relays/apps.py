from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.apps.registry import Apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class RelaysConfig(AppConfig):
    name = "mailhub.relays"
    verbose_name = _("Relays")

    def ready(self) -> None:
        post_migrate.connect(load_shipped, sender=self)


def load_shipped(apps: Apps = apps, **kwargs: Any) -> None:
    """After every migration, since a new version of MailHub may know more destinations and services."""
    from mailhub.relays import blocklists, destinations, services, warmup

    # When migrations are taken back there may be no table any more.
    if any(model._meta.label == "relays.Destination" for model in apps.get_models()):
        destinations.load()
    if any(model._meta.label == "relays.Service" for model in apps.get_models()):
        services.load()
    if any(model._meta.label == "relays.WarmupPlan" for model in apps.get_models()):
        warmup.load()
    if any(model._meta.label == "relays.Blocklist" for model in apps.get_models()):
        blocklists.load()
