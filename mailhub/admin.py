from __future__ import annotations

from django.contrib import admin


class MailHubAdminSite(admin.AdminSite):
    pass
