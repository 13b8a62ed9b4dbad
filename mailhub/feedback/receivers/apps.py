from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReceiversConfig(AppConfig):
    name = "mailhub.feedback.receivers"
    verbose_name = _("Reports from receivers")
