from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from mailhub.relays import services
from mailhub.relays.forms import RelayForm, ServiceForm
from mailhub.relays.models import Plan, Quota, Relay, Service

pytestmark = pytest.mark.django_db

ADD = "admin:relays_relay_add"


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def given(**changes: Any) -> dict[str, Any]:
    """A new relay's form as the browser sends it."""
    numbers = ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")
    quotas = {f"{rows}-{name}": "0" for rows in ("quotas", "plans") for name in numbers}
    return {
        "name": "Mine", "max_connections": 5, "first_retry": 60, "spf": "", "host": "smtp.gmail.com", "port": 587, "security": "starttls",
        "verify_certificate": "on", "username": "shop@gmail.com", "password": "app-password", "auth_method": "auto",
        "messages_per_connection": 100, "connection_age": 300, "patience": 30, "final_timeout": 60, **quotas, **changes,
    }  # fmt: skip


def test_every_service_and_plan_of_the_file_is_sound() -> None:
    for service in Service.objects.all():
        service.full_clean()
        assert service.source, service
        assert services.advice(service)
        for limit, period, kind in service.limits:
            Quota(relay=Relay(pk=1), limit=limit, period=period, kind=kind).clean_fields(exclude=["relay"])
    for plan in Plan.objects.all():
        plan.full_clean()
        assert plan.per_thousand is not None or plan.price or plan.per_day or plan.included, plan
    assert set(Service.objects.values_list("pk", flat=True)) == set(services.shipped()[0])
    assert set(Plan.objects.values_list("key", flat=True)) == set(services.shipped()[1])


def test_each_fills_in_a_form_that_only_lacks_what_is_the_accounts_own() -> None:
    for service in Service.objects.all():
        initial = {**given(host="smtp.example.com", username="shop"), **services.initial(service)}
        form = RelayForm.of("smtp")(initial)
        assert form.is_valid(), (service, form.errors)


def test_what_staff_have_edited_stays_and_the_rest_follows_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Service.objects.filter(pk="gmail").update(host="smtp.example.com")
    Plan.objects.filter(key="ses-use").update(price=Decimal("1"))
    shipped, plans = services.shipped()
    shipped["gmail"]["port"] = shipped["yahoo"]["port"] = 2525
    plans["ses-use"]["per_thousand"] = plans["mailgun-flex"]["per_thousand"] = Decimal("9.5")
    monkeypatch.setattr(services, "shipped", lambda: (shipped, plans))
    services.load()
    assert Service.objects.get(pk="gmail").port == 587
    assert Service.objects.get(pk="yahoo").port == 2525
    assert Plan.objects.get(key="ses-use").per_thousand == Decimal("0.1")
    assert Plan.objects.get(key="mailgun-flex").per_thousand == Decimal("9.5")


def test_a_new_relay_is_chosen_by_its_service(admin_client: Client) -> None:
    page = text(admin_client.get(reverse(ADD)))
    assert "?kind=smtp&amp;service=gmail" in page
    assert "500 a day" in page
    page = text(admin_client.get(reverse(ADD), {"kind": "smtp", "service": "gmail"}))
    assert 'value="smtp.gmail.com"' in page
    assert 'value="include:_spf.google.com"' in page
    assert "make an app password in its security settings" in page


def test_its_limits_become_quotas_unless_some_were_entered(admin_client: Client) -> None:
    url = reverse(ADD) + "?kind=smtp&service=lolipop-light"
    response = admin_client.post(url, given(), follow=True)
    assert "were entered as quotas" in text(response)
    relay = Relay.objects.get(name="Mine")
    assert sorted(relay.quotas.values_list("limit", "period", "kind")) == [(300, "hour", "rolling"), (3000, "day", "rolling")]
    own = {
        "quotas-TOTAL_FORMS": "1", "quotas-0-limit": "7", "quotas-0-period": "day", "quotas-0-kind": "rolling", "quotas-0-time_zone": "UTC",
        "quotas-0-counts": "recipients",
    }  # fmt: skip
    admin_client.post(url, given(name="Other", **own))
    assert list(Relay.objects.get(name="Other").quotas.values_list("limit", flat=True)) == [7]


def test_a_service_that_does_not_exist_is_as_none(admin_client: Client) -> None:
    assert admin_client.get(reverse(ADD), {"kind": "smtp", "service": "nobody"}).status_code == 200


def test_services_are_listed_and_edited(admin_client: Client) -> None:
    page = text(admin_client.get(reverse("admin:relays_service_changelist")))
    assert "Amazon SES" in page
    assert "14,000 JPY" in page
    assert admin_client.get(reverse("admin:relays_service_change", args=["ses"])).status_code == 200


def test_a_services_limits_are_a_row_each() -> None:
    ses = Service.objects.get(pk="ses")
    ses.limits = [[50, "minute", "rolling"], [1000, "day", "calendar"]]
    shown = str(ServiceForm(instance=ses)["limits"])
    assert 'value="50"' in shown and 'value="1000"' in shown and "[[" not in shown
    parts = [50, "minute", "rolling", 1000, "day", "calendar", "", "day", "rolling", "", "day", "rolling"]

    def given(parts: list[object]) -> ServiceForm:
        return ServiceForm({f"limits_{at}": part for at, part in enumerate(parts)}, instance=ses)

    assert not given(parts).has_changed()
    form = given([*parts[:6], 9, "hour", "rolling", *parts[9:]])
    assert form.is_valid() and form.save(commit=False).limits[2] == [9, "hour", "rolling"]
    assert "same time" in str(given([*parts[:6], 9, "minute", "rolling", *parts[9:]]).errors)
    assert "limits" in given([0, *parts[1:]]).errors


@pytest.mark.parametrize(("amount", "currency", "words"), [("19.95", "USD", "19.95 USD"), ("14000", "JPY", "14,000 JPY")])
def test_money_is_written_as_its_currency_is(amount: str, currency: str, words: str) -> None:
    with translation.override("en"):
        assert services.money(Decimal(amount), currency) == words
