from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TransactionalConfig(AppConfig):
    name = "transactional"
    verbose_name = _("Transactional mail")
