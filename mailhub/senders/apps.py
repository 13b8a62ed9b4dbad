from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SendersConfig(AppConfig):
    name = "mailhub.senders"
    verbose_name = _("Senders")
