from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from mailhub.api import key
from mailhub.senders.models import Sender
from tests.transactional.api import Site
from tests.transactional.listener import HOST, Client, Listener, issue
from transactional import credentials
from transactional.api.access import Rates
from transactional.models import Credential, Project, Template
from transactional.smtpd import certificates, protocol


def make_template(**changes: object) -> Template:
    """Published."""
    words = {"subject": "Order {{ order.number }}", "source": "<p>Dear {{ name }}, {{ order.number }}</p>"}
    sample = {"name": "Taro", "order": {"number": "R-1"}}
    template = Template.objects.create(**{"key": "order-confirmation", "language": "en", **words, "sample": sample, **changes})
    template.publish(None)
    return template


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
    return make_template()


@pytest.fixture
def site(project: Project, monkeypatch: pytest.MonkeyPatch) -> Site:
    """With a key that may do all; nobody has come before."""
    monkeypatch.setattr(key, "rates", Rates())
    monkeypatch.setattr(key, "throttle", credentials.Throttle())
    return Site(project)


# ------------------------------------------------------------------------------------------------------------ SMTP submission


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("smtpd") / "certificate.pem"
    certificates.keep(path, ["localhost", HOST])
    return str(path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password costs no waiting here."""
    monkeypatch.setattr(protocol, "WRONG", 0)


@pytest.fixture
def credential(project: Project) -> Credential:
    """An SMTP password; `secret` is what MailHub forgets."""
    made, secret = issue(project)
    made.secret = secret
    return made


@pytest.fixture
def listener(credential: Credential, certificate: str, settings: Settings) -> Iterator[Listener]:
    """Give the test a real database (transaction=True): the listener has threads and connections of its own."""
    settings.MAILHUB_SMTPD_CERTIFICATE = certificate
    with Listener() as listener:
        yield listener


@pytest.fixture
def mua(listener: Listener, credential: Credential) -> Iterator[Client]:
    """Logged in, over TLS."""
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO web1.example")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 2.7.0")
        yield client
