"""What staff copy into other programs."""

from __future__ import annotations

import html
import re
import subprocess
from shutil import which

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from mailhub.senders.models import Sender
from tests.transactional.listener import issue
from transactional import sending
from transactional.connect import Access
from transactional.models import Credential, Project, Submission
from transactional.requests import Request


def text(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def connect(project: Project) -> str:
    return reverse("admin:transactional_project_connect", args=[project.pk])


def test_a_projects_page_tells_where_it_connects_and_never_the_password(admin_client: Client, project: Project, settings: Settings) -> None:
    settings.MAILHUB_SMTPD_NAME, settings.MAILHUB_SMTPD_PORT, settings.MAILHUB_SMTPD_TLS_PORT = "mail.example.com", 587, 465
    shown = text(admin_client, connect(project))
    for words in ("<code>mail.example.com</code>", "<code>587</code> STARTTLS", "<code>465</code> SSL/TLS", "shown once"):
        assert words in shown
    assert "define( 'WPMS_SMTP_PASS', '…' );" in shown and "?kind=smtp" in shown
    credential, secret = issue(project)
    shown = text(admin_client, connect(project))
    assert f"define( 'WPMS_SMTP_USER', '{credential.prefix}' );" in shown and "define( 'WPMS_MAIL_FROM', 'shop@example.com' );" in shown
    assert secret not in shown


def test_a_new_password_is_shown_once_within_what_is_to_be_pasted(admin_client: Client, project: Project) -> None:
    url = reverse("admin:transactional_project_issue", args=[project.pk]) + "?kind=smtp"
    assert re.search(r'value="smtp"[^>]*checked', text(admin_client, url))
    response = admin_client.post(url, {"name": "WordPress", "kind": "smtp", "expires_at": ""})
    shown = text(admin_client, response["Location"])
    credential = Credential.objects.get()
    password = re.search(r"define\( 'WPMS_SMTP_PASS', '([^']+)' \);", shown)
    assert password and password[1].startswith(credential.prefix)
    assert f"define( 'WPMS_SMTP_USER', '{credential.prefix}' );" in shown
    assert f'EMAIL_HOST_PASSWORD = "{password[1]}"' in shown
    # Each block has a button that copies it.
    assert 'transactional/copy.js" data-copy="Copy" data-copied="Copied"' in shown
    assert password[1] not in text(admin_client, admin_client.get(response["Location"])["Location"])


def test_an_api_key_comes_with_its_own_settings(admin_client: Client, project: Project) -> None:
    url = reverse("admin:transactional_project_issue", args=[project.pk])
    response = admin_client.post(url, {"name": "API", "kind": "api_key", "scopes": ["send"], "expires_at": ""})
    shown = text(admin_client, response["Location"])
    key = re.search(r'MAILHUB_API_KEY = "(mh_[^"]+)"', shown)
    assert key and f"Authorization: Bearer {key[1]}" in shown and "WPMS_" not in shown
    assert key[1] not in text(admin_client, connect(project))


def test_the_page_tells_how_far_a_site_has_come(admin_client: Client, sender: Sender) -> None:
    project = Project.objects.create(name="New")
    shown = text(admin_client, connect(project))
    assert shown.count('class="open"') == 3 and "Nothing has come yet." in shown
    project.senders.add(sender)
    issue(project)
    asked = {"sender": sender.email, "recipients": ["a@example.net"], "via": Submission.Via.SMTP, "project": project}
    sending.send(Request(**asked, raw=b"From: shop@example.com\r\n\r\n"))
    shown = text(admin_client, connect(project))
    assert shown.count('class="done"') == 3 and "by SMTP submission" in shown


def test_the_help_page_tells_which_steps_are_mailhubs(admin_client: Client) -> None:
    shown = text(admin_client, reverse("admin:transactional_project_help"))
    assert shown.count('class="panel ours"') == 3 and shown.count('<li class="panel') == 6 and "wordpress@" in shown


def test_without_a_port_the_page_says_so(admin_client: Client, project: Project, settings: Settings) -> None:
    settings.MAILHUB_SMTPD_PORT = settings.MAILHUB_SMTPD_TLS_PORT = 0
    assert "MAILHUB_SMTPD_PORT" in text(admin_client, connect(project))


@pytest.mark.parametrize("tls", [True, False])
def test_the_words_for_wordpress_are_php(tls: bool, settings: Settings) -> None:
    if not which("php"):
        pytest.skip("php-cli is not installed")
    settings.MAILHUB_SMTPD_NAME = "mail.example.com"
    settings.MAILHUB_SMTPD_PORT, settings.MAILHUB_SMTPD_TLS_PORT = (587, 465) if tls else (0, 465)
    block = Access(user="mh_1", password="a'b\\c", sender="o'neil@example.com").by_smtp[0].block
    code = f"{block}\necho json_encode(get_defined_constants(true)['user']);"
    said = subprocess.run(["php", "-r", code], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    assert '"WPMS_SMTP_PASS":"a\'b\\\\c"' in said and '"WPMS_MAIL_FROM":"o\'neil@example.com"' in said
    assert f'"WPMS_SMTP_PORT":{587 if tls else 465},"WPMS_SSL":"{"tls" if tls else "ssl"}","WPMS_SMTP_AUTH":true' in said


def test_a_submission_is_found_by_the_number_that_the_site_was_told(admin_client: Client, project: Project, sender: Sender) -> None:
    raw = b"From: shop@example.com\r\nSubject: %s\r\n\r\n"
    asked = {"sender": "shop@example.com", "recipients": ["a@example.net"], "via": Submission.Via.SMTP, "project": project}
    first = sending.send(Request(**asked, raw=raw % b"First", origin="production (mh_1), 192.0.2.1 (web1)"))
    sending.send(Request(**asked, raw=raw % b"Second"))
    url = reverse("admin:transactional_submission_changelist")
    shown = text(admin_client, f"{url}?q={first.content.public_id}")
    assert "First" in shown and "Second" not in shown
    assert "First" not in text(admin_client, f"{url}?q=nonsense")
    page = text(admin_client, reverse("admin:transactional_submission_change", args=[first.pk]))
    assert "production (mh_1), 192.0.2.1 (web1)" in page
