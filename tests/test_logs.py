"""What must never stand in a log does not, whichever way it was logged."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
from collections.abc import Iterator

import pytest
from django.conf import settings

from mailhub.logs import redact


class Log:
    """Writes as the site's settings have it."""

    def __init__(self, form: str) -> None:
        self.stream = io.StringIO()
        config = copy.deepcopy(settings.LOGGING)
        handler = {**config["handlers"]["stderr"], "formatter": form, "stream": self.stream}
        logger = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        logging.config.dictConfig({**config, "handlers": {"stderr": handler}, "root": {}, "loggers": {"mailhub.test": logger}})
        self.logger = logging.getLogger("mailhub.test")

    @property
    def written(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    logging.config.dictConfig(settings.LOGGING)


SECRETS = [
    "AUTH PLAIN AGhlbGxvAHhunter2",
    "auth login hunter2",
    "AUTH XOAUTH2 hunter2",
    "password=hunter2",
    "the password: hunter2, it was",
    '{"api_key": "hunter2 and more"}',
    "{'secret': 'it is hunter2'}",
    "X-Api-Key: hunter2",
    "Authorization: hunter2",
    "Authorization: Bearer hunter2",
    "'Authorization': 'Basic hunter2'",
    "token=hunter2&next=/",
    "server_token=hunter2",
    "SECRET_KEY=hunter2",
    "MAILHUB_ENCRYPTION_KEYS=hunter2",
    "smtp://user:hunter2@host:25",
    "postgres://user:hunter2@host/name",
]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("said", SECRETS)
def test_a_secret_is_not_logged(form: str, said: str) -> None:
    log = Log(form)
    log.logger.info(said)
    log.logger.info("it said %s", said)
    try:
        raise ValueError(said)
    except ValueError:
        log.logger.exception("failed")
    assert "hunter2" not in log.written
    assert log.written.count("[redacted]") >= 3
    if form == "json":
        assert [json.loads(line)["levelname"] for line in log.written.splitlines()] == ["INFO", "INFO", "ERROR"]


@pytest.mark.parametrize(
    "said",
    [
        "relay 3 rests: 535 5.7.8 Authentication failed",
        "a token of esteem, and the secret of success",
        "GET /u/12.34~abc 200",
        "mail to taro@example.com: http://example.com:8080/a@b",
    ],
)
def test_other_words_are_logged_as_they_are(said: str) -> None:
    assert redact(said) == said


@pytest.mark.usefixtures("restored")
def test_a_record_is_one_json_object_on_one_line() -> None:
    log = Log("json")
    log.logger.warning("two\nlines, %s", 1)
    (line,) = log.written.splitlines()
    record = json.loads(line)
    assert (record["levelname"], record["name"], record["message"]) == ("WARNING", "mailhub.test", "two\nlines, 1")


def test_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(settings.LOGGING)
    for name in ("django.request", "django.server", "django-q", "mailhub.delivery"):
        logging.getLogger(name).error("said by %s", name, extra={"request": None, "status_code": 500})
        assert capsys.readouterr().err.count(f"said by {name}") == 1
    logging.config.dictConfig(settings.LOGGING)
