from __future__ import annotations

import pytest

from mailhub.lib.lookups import among
from mailhub.relays.models import Destination

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("keys", [["gmail", "docomo", "nobody"], ["gmail"], [], ["it's", 'a "b"', "100 %s", "{x,y}", "\\"]])
def test_it_finds_what_in_finds(keys: list[str]) -> None:
    found = set(Destination.objects.filter(among("pk", keys)).values_list("pk", flat=True))
    assert found == set(keys) & {"gmail", "docomo"}
    assert Destination.objects.exclude(among("pk", keys)).count() == Destination.objects.count() - len(found)


def test_numbers_are_found_among_others_and_written_to() -> None:
    some = Destination.objects.exclude(connections=None)
    (one, other) = some.order_by("connections").values_list("connections", flat=True).distinct()[:2]
    assert set(some.filter(among("connections", {one, other, 10_000_000})).values_list("connections", flat=True)) == {one, other}
    assert Destination.objects.filter(among("pk", ["gmail", "docomo"])).update(connections=one) == 2
