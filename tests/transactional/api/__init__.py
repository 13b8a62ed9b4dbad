"""A site that asks the HTTP API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from django.http import HttpResponse
from django.test import Client

from mailhub.lib.api import Scope
from transactional.models import Credential, Project


class Site:
    loopback = (ip_network("127.0.0.0/8"),)

    def __init__(self, project: Project) -> None:
        self.credential = Credential(project=project, kind=Credential.Kind.API_KEY, name="site", scopes=list(Scope))
        self.secret = self.credential.issue()
        self.credential.save()
        self.client = Client()
        self.headers = {"Authorization": f"Bearer {self.secret}"}

    def post(
        self, path: str, body: Any = None, *, key: str = "", authorization: str | None = None, forwarded: str = "", method: str = "POST"
    ) -> HttpResponse:
        headers: dict[str, str] = dict(self.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        if key:
            headers["Idempotency-Key"] = key
        if forwarded:
            headers["X-Forwarded-For"] = forwarded
        octets = b"" if body is None else json.dumps(body).encode()
        return self.client.generic(method, f"/api/v1/{path}", octets, content_type="application/json", headers=headers)  # type: ignore[return-value]

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> HttpResponse:
        return self.client.get(f"/api/v1/{path}", query or {}, headers=self.headers)  # type: ignore[return-value]
