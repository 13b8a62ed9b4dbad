from __future__ import annotations

from django.urls import path

from mailhub.senders import public

urlpatterns = [path("confirm/<str:token>", public.confirm, name="confirm-sender")]
