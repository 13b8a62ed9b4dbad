from __future__ import annotations

from django.urls import path

from campaigns import public

urlpatterns = [
    path("u/<str:token>", public.unsubscribe, name="unsubscribe"),
    path("u/<str:token>/subscribe", public.subscribe, name="subscribe-again"),
]
