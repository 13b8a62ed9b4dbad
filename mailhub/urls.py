from __future__ import annotations

from django.contrib import admin
from django.urls import path

from mailhub import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("admin/", admin.site.urls),
]
