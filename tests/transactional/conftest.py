from __future__ import annotations

import pytest

from mailhub.senders.models import Sender
from transactional.models import Project, Template


@pytest.fixture
def sender(db: None) -> Sender:
    sender = Sender.objects.create(email="shop@example.com", name="緑茶堂", reply_to="help@example.com")
    sender.confirm()
    return sender


@pytest.fixture
def project(sender: Sender) -> Project:
    project = Project.objects.create(name="Tea shop")
    project.senders.add(sender)
    return project


@pytest.fixture
def template(db: None) -> Template:
    return Template.objects.create(
        key="order-confirmation", language="en", subject="Order {{ order.number }}", html="<p>Dear {{ name }}, {{ order.number }}</p>"
    )
