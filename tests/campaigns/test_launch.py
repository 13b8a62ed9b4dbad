from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from campaigns import audience, launch, tasks
from campaigns.launch import NotReady
from campaigns.models import Campaign, Contact, MailingList
from mailhub.delivery.models import Batch, Content, Message
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.senders.models import Sender
from tests.campaigns.conftest import Join


@pytest.fixture(autouse=True)
def reachable(settings: object) -> None:
    settings.MAILHUB_PUBLIC_URL = "https://mail.tea.example"  # type: ignore[attr-defined]
    settings.PUBLIC_HTTPS = True  # type: ignore[attr-defined]


@pytest.fixture
def contact(news: MailingList, join: Join) -> Contact:
    return join("hana@example.net", news, name="花", city="京都")


def problems(campaign: Campaign) -> list[tuple[str, str]]:
    return [(problem.level, problem.field) for problem in launch.check(campaign)]


def said(campaign: Campaign) -> str:
    return " ".join(f"{problem.message} {problem.remedy}" for problem in launch.check(campaign))


def change(campaign: Campaign, **fields: object) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(**fields)
    campaign.refresh_from_db()


# -------------------------------------------------------------------------------------------------------------------- launch


@pytest.mark.usefixtures("contact")
def test_a_launch_freezes_the_words_and_asks_for_recipients(
    campaign: Campaign, asked: list[tuple[str, tuple[int, ...]]], django_user_model: type
) -> None:
    user = django_user_model.objects.create_user("hana")
    batch = launch.launch(campaign, user)
    campaign.refresh_from_db()
    assert (campaign.status, campaign.state, campaign.batch, campaign.launched_by) == ("launched", "running", batch, user)
    content = batch.content
    assert (content.from_email, content.from_name, content.subject) == ("news@tea.example", "緑茶堂", "New tea for {{ name }}")
    assert content.unsubscribe_base == "https://mail.tea.example/u/"
    assert (batch.name, batch.sender, batch.route, batch.filled) == ("Spring", campaign.sender, None, False)
    assert asked == [("campaigns.tasks.expand", (batch.pk,))]


@pytest.mark.usefixtures("contact")
def test_a_second_launch_changes_nothing(campaign: Campaign) -> None:
    stale = Campaign.objects.get(pk=campaign.pk)
    launch.launch(campaign, None)
    with pytest.raises(WrongState):
        launch.launch(stale, None)
    assert (Batch.objects.count(), Content.objects.count()) == (1, 1)


@pytest.mark.usefixtures("contact")
@pytest.mark.django_db(transaction=True)
def test_a_double_click_launches_once(campaign: Campaign) -> None:
    start = threading.Barrier(2)
    outcomes = []

    def click() -> None:
        try:
            start.wait()
            outcomes.append(type(launch.launch(Campaign.objects.get(pk=campaign.pk), None)))
        except Exception as error:  # noqa: BLE001
            outcomes.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.__name__ for outcome in outcomes) == ["Batch", "WrongState"]
    assert (Batch.objects.count(), Content.objects.count()) == (1, 1)


def test_errors_keep_everything_as_it_was(campaign: Campaign) -> None:
    with pytest.raises(NotReady) as caught:
        launch.launch(campaign, None)
    assert [problem.field for problem in caught.value.problems] == ["lists"]
    campaign.refresh_from_db()
    assert campaign.status == "draft"
    assert not Batch.objects.exists() and not Content.objects.exists()


# -------------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.usefixtures("contact")
def test_nothing_speaks_against_a_good_campaign(campaign: Campaign) -> None:
    assert launch.check(campaign) == []


@pytest.mark.usefixtures("contact")
def test_an_unconfirmed_sender_may_not_send(campaign: Campaign) -> None:
    Sender.objects.update(status="unconfirmed")
    campaign = Campaign.objects.get()
    assert problems(campaign) == [("error", "sender")]
    assert "news@tea.example is unconfirmed" in said(campaign)


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize("field", ["organisation", "postal_address", "contact_point"])
def test_a_sender_must_say_who_and_where_they_are(campaign: Campaign, field: str) -> None:
    Sender.objects.update(**{field: " "})
    campaign = Campaign.objects.get()
    assert problems(campaign) == [("error", "sender")]
    assert str(Sender._meta.get_field(field).verbose_name) in said(campaign)


@pytest.mark.usefixtures("contact")
def test_a_campaign_needs_a_route_with_a_relay(campaign: Campaign, route: Route) -> None:
    Relay.objects.update(status="paused")
    assert problems(campaign) == [("warning", "route")]
    RouteMember.objects.all().delete()
    assert problems(campaign) == [("error", "route")]
    Route.objects.update(default_for=None)
    assert problems(campaign) == [("error", "route")]
    campaign.route = Route.objects.create(name="Own")
    RouteMember.objects.create(route=campaign.route, relay=Relay.objects.create(name="Own", kind="memory"))
    assert problems(campaign) == []


def test_a_campaign_needs_somebody_to_send_it_to(campaign: Campaign, news: MailingList, join: Join) -> None:
    assert problems(campaign) == [("error", "lists")]
    campaign.lists.clear()
    assert problems(campaign) == [("error", "lists")]
    assert "No list is chosen." in said(campaign)


@pytest.mark.usefixtures("contact")
def test_a_campaign_needs_words(campaign: Campaign) -> None:
    change(campaign, subject=" ", html="", text="")
    assert problems(campaign) == [("error", "subject"), ("error", "html")]


@pytest.mark.usefixtures("contact")
def test_mistakes_of_templates_are_errors_with_their_line(campaign: Campaign) -> None:
    change(campaign, html="<p>\n{% if name %}</p>", subject="{{ name", text="{{ 1 / 0 }}")
    assert problems(campaign) == [("error", "subject"), ("error", "html")]
    assert "Line 2" in said(campaign)
    change(campaign, html="<p>{{ 1 / 0 }}</p>", subject="Hello", text="")
    assert problems(campaign) == [("error", "html")]
    assert "hana@example.net" in said(campaign)


def test_a_draft_with_a_mistake_is_not_saved(campaign: Campaign) -> None:
    campaign.html = "{% if %}"
    with pytest.raises(ValidationError) as caught:
        campaign.full_clean()
    assert list(caught.value.message_dict) == ["html"]


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize(
    "html",
    [
        "<!-- {{ unsubscribe_url }} --><p>Hello</p>",
        '{% if city == "Osaka" %}<a href="{{ unsubscribe_url }}">Unsubscribe</a>{% endif %}<p>Hello</p>',
        '<p style="display:none">{{ unsubscribe_url }}</p><p>Hello</p>',
    ],
)
def test_an_unsubscribe_link_that_does_not_show_is_an_error(campaign: Campaign, html: str) -> None:
    change(campaign, html=html)
    assert problems(campaign) == [("error", "html")]
    assert "unsubscribe_url" in said(campaign)


@pytest.mark.usefixtures("contact")
def test_placeholders_that_nobody_fills_are_warnings(campaign: Campaign) -> None:
    change(campaign, html="<p>{{ city }} {{ points }} {{ organisation }} {{ email }} {{ language }}</p>")
    assert problems(campaign) == [("warning", "html")]
    assert "“points”" in said(campaign)
    launch.launch(campaign, None)


@pytest.mark.usefixtures("contact")
def test_links_that_lead_nowhere_and_too_much_html_are_warnings(campaign: Campaign) -> None:
    good = '<a href="https://tea.example/{{ name }}">a</a> <a href="{{ unsubscribe_url }}">b</a> <a href=mailto:a@b.example>c</a> '
    good += '<a href="#x">d</a>'
    change(campaign, html=good)
    assert problems(campaign) == []
    change(campaign, html=good + '<img src="/logo.png"> <a class="x" href=\'javascript:alert(1)\'>x</a> <a href="http://localhost/">y</a>')
    assert problems(campaign) == [("warning", "html")] * 3
    change(campaign, html="<p>" + "x" * 110_000 + "</p>", subject="x" * 80)
    assert problems(campaign) == [("warning", "subject"), ("warning", "html")]


@pytest.mark.usefixtures("contact")
def test_a_public_address_without_https_is_a_warning(campaign: Campaign, settings: object) -> None:
    settings.PUBLIC_HTTPS = False  # type: ignore[attr-defined]
    assert problems(campaign) == [("warning", "sender")]


# ---------------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.usefixtures("contact")
def test_a_scheduled_campaign_is_launched_when_its_time_has_come(campaign: Campaign) -> None:
    at = timezone.now() + timedelta(hours=1)
    launch.schedule(campaign, at, None)
    assert (campaign.state, campaign.scheduled_at) == ("scheduled", at)
    tasks.launch_due()
    campaign.refresh_from_db()
    assert campaign.status == "scheduled"
    change(campaign, scheduled_at=timezone.now() - timedelta(days=2))  # nobody was there then
    tasks.launch_due()
    tasks.launch_due()
    campaign.refresh_from_db()
    assert campaign.status == "launched"
    assert Batch.objects.count() == 1


@pytest.mark.usefixtures("contact")
def test_a_time_that_has_passed_is_an_error(campaign: Campaign) -> None:
    with pytest.raises(NotReady) as caught:
        launch.schedule(campaign, timezone.now() - timedelta(minutes=1), None)
    assert [problem.field for problem in caught.value.problems] == ["scheduled_at"]


@pytest.mark.usefixtures("contact")
def test_a_scheduled_campaign_that_may_not_go_becomes_a_draft_with_the_problem(campaign: Campaign, django_user_model: type) -> None:
    second = campaign.copy()
    for each in (campaign, second):
        launch.schedule(each, timezone.now() + timedelta(hours=1), None)
        change(each, scheduled_at=timezone.now())
    change(campaign, html="", text="")
    tasks.launch_due()
    campaign.refresh_from_db()
    second.refresh_from_db()
    assert (campaign.status, campaign.scheduled_at, second.status) == ("draft", None, "launched")
    assert "The mail says nothing." in campaign.problem


@pytest.mark.usefixtures("contact")
def test_one_campaign_that_breaks_does_not_hold_up_the_next(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    second = campaign.copy()
    for each in (campaign, second):
        launch.schedule(each, timezone.now() + timedelta(hours=1), None)
        change(each, scheduled_at=timezone.now() - timedelta(minutes=each is campaign))
    real = launch.launch

    def broken(each: Campaign, by: object) -> Batch:
        if each == campaign:
            raise RuntimeError
        return real(each, by)  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "launch", broken)
    tasks.launch_due()
    campaign.refresh_from_db()
    second.refresh_from_db()
    assert (campaign.status, second.status) == ("scheduled", "launched")


@pytest.mark.usefixtures("contact")
def test_an_unscheduled_campaign_is_a_draft_again(campaign: Campaign) -> None:
    launch.schedule(campaign, timezone.now() + timedelta(hours=1), None)
    campaign.unschedule()
    assert (campaign.status, campaign.scheduled_at, campaign.problem) == ("draft", None, "")
    with pytest.raises(WrongState):
        campaign.unschedule()


@pytest.mark.usefixtures("contact")
def test_the_tick_asks_for_due_launches(campaign: Campaign, asked: list[tuple[str, tuple[int, ...]]]) -> None:
    tasks.tick()
    assert asked == []
    launch.schedule(campaign, timezone.now() + timedelta(hours=1), None)
    change(campaign, scheduled_at=timezone.now())
    tasks.tick()
    assert asked == [("campaigns.tasks.launch_due", ())]


# -------------------------------------------------------------------------------------------------------------------- verbs

ACTS = {
    "schedule": lambda campaign: campaign.schedule(timezone.now()),
    "unschedule": lambda campaign: campaign.unschedule(),
    "launch": lambda campaign: launch.launch(campaign, None),
    "pause": lambda campaign: campaign.pause(),
    "resume": lambda campaign: campaign.resume(),
    "cancel": lambda campaign: campaign.cancel(),
}
LEGAL = {
    "draft": {"schedule", "launch"},
    "scheduled": {"unschedule", "launch"},
    "running": {"pause", "cancel"},
    "paused": {"resume", "cancel"},
    "canceled": set(),
    "done": set(),
}


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("state", LEGAL)
def test_each_act_is_for_certain_states(campaign: Campaign, state: str, act: str) -> None:
    if state == "scheduled":
        campaign.schedule(timezone.now() + timedelta(hours=1))
    elif state != "draft":
        batch = launch.launch(campaign, None)
        Batch.objects.filter(pk=batch.pk).update(status=state)
        campaign = Campaign.objects.get(pk=campaign.pk)
    if act in LEGAL[state]:
        ACTS[act](campaign)
    else:
        with pytest.raises(WrongState):
            ACTS[act](campaign)


@pytest.mark.usefixtures("contact")
def test_what_was_paused_goes_on_and_ends(campaign: Campaign, asked: list[tuple[str, tuple[int, ...]]]) -> None:
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    campaign.pause()
    Batch.objects.update(waiting=0, sent=1)  # what a worker had claimed is through
    campaign.resume()
    batch.refresh_from_db()
    assert batch.status == "done"


@pytest.mark.usefixtures("contact")
def test_a_canceled_campaign_has_its_waiting_mail_withdrawn(campaign: Campaign, asked: list[tuple[str, tuple[int, ...]]]) -> None:
    batch = launch.launch(campaign, None)
    campaign.cancel()
    assert asked[-1] == ("mailhub.delivery.tasks.withdraw", (batch.pk,))


@pytest.mark.usefixtures("contact")
def test_a_copy_is_a_new_draft(campaign: Campaign, news: MailingList) -> None:
    launch.launch(campaign, None)
    copy = campaign.copy()
    assert (copy.name, copy.status, copy.batch, copy.html, list(copy.lists.all())) == (
        "Copy of Spring",
        "draft",
        None,
        campaign.html,
        [news],
    )
    assert copy.public_id != campaign.public_id


# --------------------------------------------------------------------------------------------------------------------- test


@pytest.mark.usefixtures("contact")
def test_a_test_goes_to_one_address_with_a_recipients_data(campaign: Campaign, news: MailingList) -> None:
    message = launch.send_test(campaign, "staff@tea.example")
    assert (message.address, message.data["name"], message.data["city"]) == ("staff@tea.example", "花", "京都")
    assert message.content.subject == "[Test] New tea for {{ name }}"
    assert message.batch is not None
    message.batch.refresh_from_db()
    assert (message.batch.waiting, message.batch.filled, message.batch.name) == (1, True, "Test of Spring")
    campaign.refresh_from_db()
    assert campaign.status == "draft"
    assert Message.objects.count() == 1


def test_a_test_needs_no_recipients_but_a_sender_and_words(campaign: Campaign) -> None:
    assert launch.send_test(campaign, "staff@tea.example").data["name"]
    change(campaign, html="{% if %}")
    with pytest.raises(NotReady):
        launch.send_test(campaign, "staff@tea.example")
