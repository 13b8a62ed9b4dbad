from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReturnsConfig(AppConfig):
    name = "mailhub.feedback.returns"
    verbose_name = _("Bounces")
