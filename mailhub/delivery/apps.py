from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeliveryConfig(AppConfig):
    name = "mailhub.delivery"
    verbose_name = _("Delivery")

    def ready(self) -> None:
        from django.db.models.signals import pre_delete

        from mailhub.delivery import guard
        from mailhub.relays.models import Relay
        from mailhub.senders.models import Sender

        pre_delete.connect(guard.refuse, sender=Sender, dispatch_uid="mailhub.delivery.guard")
        pre_delete.connect(guard.refuse_relay, sender=Relay, dispatch_uid="mailhub.delivery.guard.relay")
