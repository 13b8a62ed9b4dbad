from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path, re_path

from mailhub import health
from mailhub.api import api, missing

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("i18n/", include("django.conf.urls.i18n")),
    # The log-in page shows its link once the first of these has its name.
    path("admin/password_reset/", auth.PasswordResetView.as_view(), name="admin_password_reset"),
    path("admin/password_reset/done/", auth.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path("admin/reset/<uidb64>/<token>/", auth.PasswordResetConfirmView.as_view(), name="password_reset_confirm"),
    path("admin/reset/done/", auth.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    # Line breaks, too, which <path:...> leaves out.
    re_path(r"^api/v1/(?P<rest>[\s\S]*)$", missing),
    path("", include("mailhub.senders.urls")),
    path("", include("mailhub.feedback.urls")),
    path("", include("mailhub.delivery.urls")),
    path("", include("campaigns.urls")),
]
