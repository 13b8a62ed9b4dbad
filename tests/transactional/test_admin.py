from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery.models import Message, Suppression
from mailhub.senders.models import Sender
from mailhub.webhooks.models import Endpoint
from tests.transactional.api import Site
from transactional import pages, samples, sending
from transactional.models import Credential, Project, Submission, Template
from transactional.requests import Request

SECRET = re.compile(r"mh_[0-9a-f]{8}_[\w-]{32}")


@pytest.fixture
def viewer(db: None, client: Client) -> Client:
    """May look at everything but what mails say, and change nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_").exclude(codename="view_body"))
    client.force_login(user)
    return client


@pytest.fixture
def credential(project: Project) -> Credential:
    credential = Credential(project=project, kind="api_key", name="production")
    credential.issue()
    credential.save()
    return credential


@pytest.fixture
def submission(project: Project, template: Template) -> Submission:
    return sending.send(
        Request(
            sender="shop@example.com",
            recipients=["taro@example.net", "hana@example.net"],
            via=Submission.Via.API,
            template=template.key,
            data={"name": "Taro", "order": {"number": "R-17"}},
            project=project,
            idempotency_key="order-17",
        )
    )


def text(response: Any) -> str:
    return response.content.decode()  # type: ignore[no-any-return]


def change(row: Any) -> str:
    return reverse(f"admin:transactional_{row._meta.model_name}_change", args=[row.pk])


def page(project: Project, name: str, *more: int) -> str:
    return reverse(f"admin:transactional_project_{name}", args=[project.pk, *more])


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


# ------------------------------------------------------------------------------------------------------------------ projects


def test_a_project_names_its_senders(admin_client: Client, sender: Sender) -> None:
    assert "admin-autocomplete" in text(admin_client.get(reverse("admin:transactional_project_add")))
    looked_up = {"app_label": "transactional", "model_name": "project", "field_name": "senders", "term": "shop"}
    found = admin_client.get(reverse("admin:autocomplete"), looked_up).json()["results"]
    assert [row["id"] for row in found] == [str(sender.pk)]
    admin_client.post(
        reverse("admin:transactional_project_add"),
        {"name": "Tea shop", "stream": "transactional", "senders": [sender.pk], "from_policy": "keep", "suppression_scope": "all"},
    )
    assert list(Project.objects.get().senders.all()) == [sender]


def test_the_page_gives_settings_to_paste(admin_client: Client, project: Project, sender: Sender) -> None:
    shown = text(admin_client.get(page(project, "connect")))
    assert "EMAIL_BACKEND = &quot;transactional.backend.EmailBackend&quot;" in shown
    assert "DEFAULT_FROM_EMAIL = &quot;shop@example.com&quot;" in shown
    sender.disable()
    assert "DEFAULT_FROM_EMAIL = &quot;shop@example.com&quot;" not in text(admin_client.get(page(project, "connect")))


def test_a_projects_page_shows_who_is_told_of_its_mail(admin_client: Client, project: Project) -> None:
    url = reverse("admin:transactional_project_change", args=[project.pk])
    assert "is not told what became of its mails" in admin_client.get(url).content.decode()
    for name, project_ref in (("Its own", project.pk), ("Everybody", None), ("Another", project.pk + 1)):
        Endpoint.objects.create(name=name, url="https://shop.example/mail/", project_ref=project_ref)
    page = admin_client.get(url).content.decode()
    assert "Its own" in page and "Everybody" in page and "Another" not in page
    assert f"{reverse('admin:webhooks_endpoint_add')}?project_ref={project.pk}" in page


def test_a_projects_page_shows_what_became_of_its_latest_mails(
    admin_client: Client, project: Project, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Project.objects.create(name="Other")
    assert "Its latest mails" not in text(admin_client.get(page(other, "change")))
    shown = text(admin_client.get(page(project, "change")))
    assert f'?project={project.pk}&amp;state=queued">{Message.objects.count()}</a>' in shown
    monkeypatch.setattr(pages, "LATEST", 0)
    assert pages.fates(project) == []


def test_a_project_that_has_sent_stays(admin_client: Client, project: Project, submission: Submission) -> None:
    url = reverse("admin:transactional_project_delete", args=[project.pk])
    shown = text(admin_client.get(url))
    assert "Submissions: “HTTP API" in shown and "Revoke its credentials" in shown
    admin_client.post(url, {"post": "yes"})
    assert Project.objects.exists()


def test_an_unused_project_goes_with_its_credentials(admin_client: Client, project: Project, credential: Credential) -> None:
    url = reverse("admin:transactional_project_delete", args=[project.pk])
    assert dict(admin_client.get(url).context["model_count"]) == {"projects": 1, "credentials": 1}
    admin_client.post(url, {"post": "yes"})
    assert not Project.objects.exists() and not Credential.objects.exists()


def test_the_list_of_projects_counts_in_one_query(admin_client: Client, project: Project, credential: Credential) -> None:
    url = reverse("admin:transactional_project_changelist")
    few = queries(admin_client, url)
    for number in range(4):
        Project.objects.create(name=f"Site {number}").senders.add(*Sender.objects.all())
    assert queries(admin_client, url) == few


# --------------------------------------------------------------------------------------------------------------- credentials


def issue(client: Client, project: Project, **changes: str) -> Any:
    return client.post(page(project, "issue"), {"name": "production", "kind": "api_key", "scopes": ["send"], "expires_at": "", **changes})


def test_a_secret_is_shown_exactly_once(admin_client: Client, project: Project) -> None:
    response = issue(admin_client, project)
    credential = Credential.objects.get()
    assert response["Location"] == page(project, "issued", credential.pk)
    assert not SECRET.search(text(response))
    shown = admin_client.get(response["Location"])
    (secret,) = set(SECRET.findall(text(shown)))
    assert (credential.prefix, credential.digest) == (secret[:11], hashlib.sha256(secret.encode()).hexdigest())
    assert "no-store" in shown["Cache-Control"]
    again = admin_client.get(response["Location"], follow=True)
    assert again.redirect_chain[0][0] == change(project)
    assert "A secret is shown once." in text(again)
    assert not SECRET.search(text(again)) and f"{credential.prefix}…" in text(again)


def test_a_secret_lies_nowhere_in_the_open(admin_client: Client, project: Project) -> None:
    response = issue(admin_client, project)
    waiting = [str(session.get_decoded()) for session in Session.objects.all()]
    secret = SECRET.findall(text(admin_client.get(response["Location"])))[0]
    kept = [str(session.get_decoded()) for session in Session.objects.all()]
    entry = LogEntry.objects.get()
    assert "production" in entry.get_change_message()
    for place in (*waiting, *kept, entry.change_message):
        assert secret not in place and secret[12:] not in place
    assert "transactional.issued" in str(waiting) and "transactional.issued" not in str(kept)


def test_a_secret_shows_only_on_its_own_page(admin_client: Client, project: Project, credential: Credential) -> None:
    response = issue(admin_client, project, name="other")
    assert not SECRET.search(text(admin_client.get(page(project, "issued", credential.pk), follow=True)))
    assert admin_client.get(page(Project.objects.create(name="Blog"), "issued", credential.pk)).status_code == 404
    # The guess of another page used it up.
    assert "A secret is shown once." in text(admin_client.get(response["Location"], follow=True))


def test_a_credential_ends_in_the_future(admin_client: Client, project: Project) -> None:
    assert "This time has passed." in text(issue(admin_client, project, expires_at="2020-01-01T10:00"))
    assert "This field is required." in text(issue(admin_client, project, name=""))
    assert "single line" in text(issue(admin_client, project, name="a\vb"))
    assert not Credential.objects.exists()
    soon = timezone.localtime() + timedelta(days=30)
    issue(admin_client, project, expires_at=f"{soon:%Y-%m-%dT%H:%M}")
    credential = Credential.objects.get()
    assert credential.expires_at and abs(credential.expires_at - soon) < timedelta(minutes=1)


def test_what_a_credential_may_is_changed_and_its_secret_stays(admin_client: Client, project: Project) -> None:
    site = Site(project)
    url = reverse("admin:transactional_project_change_credential", args=[project.pk, site.credential.pk])
    assert "The secret stays" in text(admin_client.get(url))
    assert "what the key may do" in text(admin_client.post(url, {"name": "web"}))
    filled = {"name": "web", "scopes": ["messages:read"], "networks": "127.0.0.1", "expires_at": ""}
    assert admin_client.post(url, filled).status_code == 302
    assert site.get("messages").status_code == 200
    assert site.get("templates").status_code == 403
    before = Credential.objects.get()
    assert (before.name, before.networks, before.last_used_at is None) == ("web", ["127.0.0.1/32"], False)
    admin_client.post(url, {**filled, "networks": "192.0.2.1"})
    assert site.get("messages").status_code == 401
    Credential.objects.update(kind="smtp", scopes=[])
    assert "An API key may" not in text(admin_client.get(url))
    assert admin_client.post(url, {"name": "printer", "networks": ""}).status_code == 302
    assert Credential.objects.values_list("name", "scopes", "networks").get() == ("printer", [], [])


def test_revoking_asks_first(admin_client: Client, project: Project, credential: Credential) -> None:
    url = page(project, "revoke", credential.pk)
    asked = text(admin_client.get(url))
    assert "production" in asked and "It has never been used." in asked
    assert Credential.objects.exists()
    Credential.objects.update(last_used_at=timezone.now())
    assert "It was last used" in text(admin_client.get(url))
    assert "revoked" in text(admin_client.post(url, follow=True))
    assert not Credential.objects.exists()
    assert "revoked" in LogEntry.objects.get().get_change_message()
    assert admin_client.post(url).status_code == 404


# ----------------------------------------------------------------------------------------------------------------- templates


def fields(**changes: str) -> dict[str, str]:
    words = {"subject": "Order {{ order.number }}", "source": "<p>Dear {{ name }}</p>", "text": "", "sample": "{}"}
    return {"key": "order", "language": "en", "format": "html", "optional": "", **words, **changes}


def test_mistakes_in_a_template_are_told_by_line(admin_client: Client) -> None:
    add = reverse("admin:transactional_template_add")
    shown = text(admin_client.post(add, fields(source="<p>\n{% if %}</p>", text="a\nb\n{{ name | nonsense }}", sample='{\n"name": }')))
    assert "Line 2: Expected an expression" in shown and "Line 3: No filter named" in shown and "Line 2: Expecting value" in shown
    assert "Give an object of names and values" in text(admin_client.post(add, fields(sample="[1]")))
    assert "Give an object of names and values" in text(admin_client.post(add, fields(sample='"x"')))
    assert not Template.objects.exists()
    admin_client.post(add, fields(sample=""))
    assert Template.objects.get().sample == {}
    assert "already exists" in text(admin_client.post(add, fields()))


def test_sample_data_is_written_as_people_read_it(admin_client: Client, template: Template) -> None:
    Template.objects.update(sample={"name": "太郎", "order": {"number": 7}})
    assert "{\n  &quot;name&quot;: &quot;太郎&quot;,\n" in text(admin_client.get(change(template)))
    # What was typed comes back as it was, with its mistake.
    assert "{&quot;name&quot;: 太" in text(admin_client.post(change(template), fields(sample='{"name": 太')))


def test_the_preview_shows_the_sample_data_and_can_do_nothing(admin_client: Client, template: Template) -> None:
    Template.objects.update(sample={"name": "太郎", "order": {"number": "R-17"}}, source="<p>{{ name }}</p><script>alert(1)</script>")
    url = reverse("admin:transactional_template_preview", args=[template.pk])
    frame = admin_client.get(url)
    assert "<p>太郎</p>" in text(frame)
    assert frame["Content-Security-Policy"].startswith("sandbox") and frame["X-Frame-Options"] == "SAMEORIGIN"
    shown = text(admin_client.get(change(template)))
    assert f'<iframe sandbox src="{url}"' in shown and "Order R-17" in shown
    assert "<script>alert" not in shown
    # As it stands in the table, without having been checked.
    Template.objects.update(source="{% if %}")
    assert "Line 1" in text(admin_client.get(url))
    assert admin_client.get(change(template)).status_code == 200


def test_placeholders_without_sample_data_are_named(admin_client: Client, template: Template) -> None:
    Template.objects.update(sample={"name": "Taro"})
    shown = text(admin_client.get(change(template)))
    assert "There is no “order” to fill in here." in shown and "There is no “name”" not in shown
    Template.objects.update(sample={"name": "Taro", "order": {}})
    assert "to fill in here" not in text(admin_client.get(change(template)))


def test_a_template_leads_to_its_other_languages(admin_client: Client, template: Template) -> None:
    link = f"{reverse('admin:transactional_template_add')}?key={template.key}&amp;language=ja"
    assert link in text(admin_client.get(change(template)))
    begun = text(admin_client.get(link.replace("&amp;", "&")))
    assert f'value="{template.key}"' in begun and '<option value="ja" selected>' in begun
    other = Template.objects.create(key=template.key, language="ja", subject="ご注文", source="<p>茶</p>")
    shown = text(admin_client.get(change(template)))
    assert link not in shown and change(other) in shown


def test_samples_are_offered_where_there_is_nothing_yet(admin_client: Client) -> None:
    url, samples_url = reverse("admin:transactional_template_changelist"), reverse("admin:transactional_template_samples")
    assert samples_url in text(admin_client.get(url))
    assert admin_client.get(samples_url).status_code == 405
    assert "6 samples were added." in text(admin_client.post(samples_url, follow=True))
    assert Template.objects.count() == len(samples.KEYS) * len(samples.LANGUAGES)
    shown = text(admin_client.get(url))
    assert samples_url not in shown and "order-confirmation" in shown and "Japanese" in shown


# --------------------------------------------------------------------------------------------------------------- submissions


def test_submissions_tell_where_they_came_from_and_lead_to_their_mails(admin_client: Client, submission: Submission) -> None:
    Message.objects.filter(address="hana@example.net").update(status="bounced", reply="550 5.1.1 no such user")
    listed = text(admin_client.get(reverse("admin:transactional_submission_changelist")))
    for shown in ("hana@example.net and 1 more", "Tea shop", "HTTP API"):
        assert shown in listed, shown
    own = text(admin_client.get(change(submission)))
    for shown in ("Order R-17", "taro@example.net", "550 5.1.1 no such user", "order-17", "2 recipients", "bounced"):
        assert shown in own, shown
    for message in Message.objects.all():
        assert reverse("admin:delivery_message_change", args=[message.pk]) in own


def test_a_submission_shows_what_the_site_said_of_it(admin_client: Client, submission: Submission) -> None:
    Submission.objects.update(tags="\nvip\norder\n", metadata={"invoice": "<17>"})
    shown = text(admin_client.get(change(submission)))
    for words in ("order-confirmation</a> · version 1", "vip, order", "<code>invoice</code>", "&lt;17&gt;"):
        assert words in shown, words


def test_the_list_of_submissions_takes_a_bounded_number_of_queries(admin_client: Client, project: Project, submission: Submission) -> None:
    url = reverse("admin:transactional_submission_changelist")
    few = queries(admin_client, url)
    for number in range(5):
        request = Request(
            sender="shop@example.com", recipients=[f"p{number}@example.net"], via=Submission.Via.BACKEND,
            template="order-confirmation", data={"name": "P", "order": {"number": number}},
        )  # fmt: skip
        sending.send(request)
    assert queries(admin_client, url) == few
    assert "MailHub itself" in text(admin_client.get(url))


def test_a_list_of_submissions_reads_no_bodies(admin_client: Client, submission: Submission) -> None:
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(reverse("admin:transactional_submission_changelist"))
    for column in ('"raw"', '"html"', '"data"'):
        assert not any(column in query["sql"] for query in captured), column


def test_a_submission_whose_mails_are_forgotten_says_so(admin_client: Client, submission: Submission) -> None:
    Message.objects.all().delete()
    assert "have been forgotten" in text(admin_client.get(change(submission)))
    assert admin_client.get(reverse("admin:transactional_submission_changelist")).status_code == 200


def test_nobody_changes_submissions(admin_client: Client, submission: Submission) -> None:
    assert admin_client.get(reverse("admin:transactional_submission_add")).status_code == 403
    assert admin_client.post(change(submission), {}).status_code == 403
    assert admin_client.post(reverse("admin:transactional_submission_delete", args=[submission.pk]), {"post": "yes"}).status_code == 403


# ---------------------------------------------------------------------------------------------------------------- permissions


def test_who_may_only_look_sees_no_forms(
    viewer: Client, project: Project, credential: Credential, template: Template, submission: Submission
) -> None:
    shown = text(viewer.get(change(project)))
    assert "shop@example.com" in shown and f"{credential.prefix}…" in shown
    refused = [page(project, "issue"), page(project, "issued", credential.pk), page(project, "revoke", credential.pk)]
    refused.append(reverse("admin:transactional_template_samples"))
    for url in refused:
        assert url not in shown
        assert viewer.post(url).status_code in (403, 405)
    for url in refused[:3]:
        assert viewer.get(url).status_code == 403
    assert refused[3] not in text(viewer.get(reverse("admin:transactional_template_changelist")))
    own = text(viewer.get(change(template)))
    assert "<textarea" not in own and 'name="_save"' not in own and "order-confirmation" in own
    assert viewer.post(change(template), fields()).status_code == 403
    assert Credential.objects.count() == 1 and Template.objects.count() == 1


def test_a_subject_is_filled_in_only_for_who_may_read_mails(viewer: Client, submission: Submission) -> None:
    shown = text(viewer.get(change(submission)))
    assert "Order {{ order.number }}" in shown and "R-17" not in shown
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_body"))
    assert "Order R-17" in text(viewer.get(change(submission)))


def test_strangers_are_sent_to_the_log_in(
    client: Client, project: Project, credential: Credential, template: Template, submission: Submission
) -> None:
    places = [page(project, "issue"), page(project, "issued", credential.pk), page(project, "revoke", credential.pk)]
    places += [reverse("admin:transactional_template_preview", args=[template.pk]), reverse("admin:transactional_template_samples")]
    places += [change(row) for row in (project, template, submission)]
    for url in places:
        for method in (client.get, client.post):
            response = method(url)
            assert response.status_code == 302 and "/login/" in response["Location"]


def test_pages_obey_our_policy(
    admin_client: Client, project: Project, credential: Credential, template: Template, submission: Submission
) -> None:
    places = [reverse(f"admin:transactional_{name}_changelist") for name in ("project", "template", "submission")]
    places += [reverse(f"admin:transactional_{name}_add") for name in ("project", "template")]
    places += [change(row) for row in (project, template, submission)]
    places += [page(project, "issue"), page(project, "revoke", credential.pk), issue(admin_client, project, name="x")["Location"]]
    for url in places:
        response = admin_client.get(url)
        assert response.status_code == 200
        for inline in (" style=", "<style", " onclick", "javascript:"):
            assert inline not in text(response).split("<textarea")[0], (url, inline)


def test_pages_with_nothing_on_them_open(admin_client: Client) -> None:
    for name in ("project", "template", "submission"):
        assert admin_client.get(reverse(f"admin:transactional_{name}_changelist")).status_code == 200


def test_a_suppression_for_one_project_names_it(admin_client: Client, project: Project) -> None:
    row = Suppression.objects.create(address="taro@example.net", project=project.pk)
    Suppression.objects.create(address="hana@example.net", project=project.pk + 1)
    listed = text(admin_client.get(reverse("admin:delivery_suppression_changelist")))
    assert "Mail of the project “Tea shop”" in listed
    assert f"Mail of the project “{project.pk + 1}”" in listed
    shown = text(admin_client.get(reverse("admin:delivery_suppression_change", args=[row.pk])))
    assert "No mail of the project “Tea shop” is sent to this address; other mail is." in shown
