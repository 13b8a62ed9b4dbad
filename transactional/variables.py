"""What a template's sample data declares: every name in it is a value that a site has to give, but for those that may be missing.

    {"name": "Taro", "order": {"number": "R-17", "items": [{"name": "Tea"}]}}

declares name, order.number and order.items, and for each of the items its name."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.delivery import prepare

if TYPE_CHECKING:
    from transactional.models import Template, TemplateVersion

NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def optional(names: str) -> set[str]:
    """The names of a template that may be missing. Raises ValidationError."""
    found = {name for part in names.split(",") if (name := part.strip())}
    for name in sorted(found):
        if not NAME.fullmatch(name):
            raise ValidationError(_("“%(name)s” is no name of a variable.") % {"name": name})
    return found


def missing(version: Template | TemplateVersion, data: Mapping[str, Any]) -> list[str]:
    """Names of declared values that `data` lacks, such as order.items[2].name."""
    return list(_missing(version.sample, data, optional(version.optional), "", ""))


def _missing(declared: Any, given: Any, spared: Collection[str], name: str, place: str) -> Iterator[str]:
    """`name` is that of the declaration, `place` the same with the numbers of items."""
    if isinstance(declared, dict):
        if not isinstance(given, Mapping):
            yield place
            return
        for key, value in declared.items():
            inner, where = (f"{name}.{key}", f"{place}.{key}") if name else (key, key)
            if key in given and not (given[key] is None and inner in spared):
                yield from _missing(value, given[key], spared, inner, where)
            elif inner not in spared:
                yield where
    elif isinstance(declared, list) and declared:
        if not isinstance(given, list):
            yield place
            return
        for number, item in enumerate(given):
            yield from _missing(declared[0], item, spared, name, f"{place}[{number}]")


def filled(version: Template | TemplateVersion, data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `data` in which what may be missing, and is, stands for nothing."""
    copied = copy.deepcopy(dict(data))
    for name in optional(version.optional):
        _fill(copied, name.split("."))
    return copied


def _fill(data: Any, path: list[str]) -> None:
    if isinstance(data, list):
        for item in data:
            _fill(item, path)
    elif isinstance(data, dict):
        first, *rest = path
        if rest and isinstance(data.get(first), dict | list):
            _fill(data[first], rest)
        else:
            data.setdefault(first, None)


def names(sample: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every declared name with its sample; those of a list's items end the list's with []."""
    if isinstance(sample, dict):
        for key, value in sample.items():
            yield from names(value, f"{name}.{key}" if name else key)
    elif isinstance(sample, list) and sample and isinstance(sample[0], dict):
        yield from names(sample[0], f"{name}[]")
    else:
        yield name, sample


def check(template: Template) -> None:
    """Raises ValidationError where the template cannot be filled in from its own samples, with or without what may be missing;
    NotWellFormed where there is no HTML."""
    whole = {**template.sample, "email": "taro@example.com", "unsubscribe_url": ""}
    html = template.html
    try:
        words = prepare.Words(template.subject, html, template.text, strict=True)
        words.render(filled(template, whole))
        words.render(filled(template, _without(whole, optional(template.optional))))
    except Exception as error:
        raise ValidationError(prepare.refusal(error).reply.text) from error


def _without(data: Any, spared: Collection[str], name: str = "") -> Any:
    if isinstance(data, list):
        return [_without(item, spared, name) for item in data]
    if not isinstance(data, dict):
        return data
    inner = {key: f"{name}.{key}" if name else key for key in data}
    return {key: _without(value, spared, inner[key]) for key, value in data.items() if inner[key] not in spared}
