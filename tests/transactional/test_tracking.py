from __future__ import annotations

import pytest

from mailhub.delivery import prepare
from mailhub.senders.models import Sender
from tests.transactional.conftest import make_template
from tests.transactional.test_sending import filled, finished
from transactional import sending
from transactional.models import Project

SOURCE = '<p><a href="https://shop.example/">Shop</a> <a href="https://shop.example/reset/{{ name }}">New password</a></p>'


@pytest.mark.parametrize(("opens", "clicks"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_project_tracks_what_it_says_of_mails_from_templates(project: Project, sender: Sender, opens: bool, clicks: bool) -> None:
    make_template(source=SOURCE, sample={"name": "Taro"}, subject="Hello")
    project.tracks_opens, project.tracks_clicks = opens, clicks
    content = sending.send(filled(project=project, data={"name": "Taro"})).content
    assert (content.tracks_opens, content.links) == (opens, ["https://shop.example/"] if clicks else None)
    mail = prepare.Compiled(content).envelope(content.messages.get()).data.replace(b"=\r\n", b"")
    assert (b"/t/o/" in mail, mail.count(b"/t/c/")) == (opens, int(clicks))
    # What may be for one person alone leads there itself.
    assert b"https://shop.example/reset/Taro" in mail


def test_a_finished_mail_keeps_its_bytes_whatever_its_project_says(project: Project) -> None:
    project.tracks_opens = project.tracks_clicks = True
    content = sending.send(finished(project=project)).content
    assert content.tracking_base == "" and content.links is None
