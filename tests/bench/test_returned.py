"""What the size benchmark measures of what comes back: that it runs, finds what it made, and leaves books that balance."""

from __future__ import annotations

import pytest

from mailhub.bench import dataset, returned
from mailhub.delivery import tasks
from mailhub.feedback import attention
from mailhub.feedback.returns.models import Count
from tests.delivery.world import postgresql_only


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_what_comes_back_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returned, "CALLBACKS", 200)
    monkeypatch.setattr(returned, "ROWS", 200)
    monkeypatch.setattr(returned, "ASKED", 20)
    site = dataset.make(dataset.Size(messages=2_000, contacts=500), ("127.0.0.1", 9), lambda _words: None)
    figures: dict[str, float] = {}
    returned.run(site.relays[0], lambda key, _words, value: figures.update({key: value}), lambda _words: None)
    assert set(figures) == {"returned_per_s", "callbacks_per_s", "pixels_per_s", "opens_per_s"}
    assert min(figures.values()) > 0
    assert Count.objects.exists()
    assert (attention.mails().count(), attention.parked().count()) == (2, 2)
    assert tasks.audit() == []
