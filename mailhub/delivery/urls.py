from __future__ import annotations

from django.urls import path

from mailhub.delivery import public

urlpatterns = [
    path("t/o/<str:token>", public.opened, name="open"),
    path("t/c/<str:token>/<int:number>", public.clicked, name="click"),
]
