from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from transactional.models import Template


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"source": "<p>\n{% if %}"}, "source", "Line 2"),
        ({"text": "{{ name.upper() }}"}, "text", "filters"),
        ({"subject": "{{ name"}, "subject", "Line 1"),
        ({"sample": [1]}, "sample", "object"),
    ],
)
def test_mistakes_are_named_by_part_and_line(changes: dict[str, object], field: str, words: str) -> None:
    template = Template(**{"key": "k", "language": "en", "subject": "S", "source": "<p>{{ name }}</p>", **changes})
    with pytest.raises(ValidationError) as caught:
        template.clean()
    assert set(caught.value.message_dict) == {field}
    assert words in caught.value.message_dict[field][0]


def test_a_good_template_is_left_in_peace() -> None:
    Template(key="k", language="en", subject="S {{ x }}", source="<p>{{ name }}</p>", sample={"name": "Taro"}).clean()
