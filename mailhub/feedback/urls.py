from __future__ import annotations

from django.urls import path

from mailhub.feedback import public

urlpatterns = [path("callbacks/<str:token>", public.callback, name="callback")]
