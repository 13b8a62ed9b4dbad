"""Rows that others need are not deleted; the page names those, and says what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import PROTECT, ForeignObjectRel, Model
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

M = TypeVar("M", bound=Model)

# Of the rows that need one, so many are named, and so many counted: there may be millions.
NAMED, COUNTED = 3, 100


class ExplainedDeletion(admin.ModelAdmin[M]):
    delete_confirmation_template = "admin/relays/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/relays/delete_selected_confirmation.html"

    #: accessors of rows that are deleted with this one
    deleted_too: Sequence[str] = ()
    #: what to do with a row that must stay
    instead: Any = ""

    def obstacles(self, obj: M) -> Iterable[str]:
        """Why the row must stay, in words; nothing when it may go."""
        return needed_by(obj)

    def get_deleted_objects(self, objs: Iterable[M], request: HttpRequest) -> Any:
        """Django's own would load all that hangs on these rows: the mails of one sender can be millions."""
        chosen = list(objs)
        counts = {self.opts.verbose_name_plural: len(chosen)}
        for name in self.deleted_too:
            relation: Any = self.opts.get_field(name)
            rows = relation.related_model._default_manager.filter(**{f"{relation.field.name}__in": chosen})
            counts[relation.related_model._meta.verbose_name_plural] = rows.count()
        obstacles = [f"{obj}: {words}" if len(chosen) > 1 else words for obj in chosen for words in self.obstacles(obj)]
        return list(map(str, chosen)), {name: count for name, count in counts.items() if count}, set(), obstacles

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        return super().render_delete_form(request, {**context, "instead": self.instead})


def needed_by(obj: Model) -> Iterable[str]:
    """The rows that could not be without this one, a sentence for each kind of them."""
    found: dict[Any, dict[Any, Model]] = {}
    for relation in obj._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and relation.on_delete is PROTECT:
            model: Any = relation.related_model
            rows = model._default_manager.filter(**{relation.field.name: obj}).order_by()
            found.setdefault(model, {}).update((row.pk, row) for row in rows[: COUNTED + 1])
    return [named(model, list(rows.values())) for model, rows in found.items() if rows]


def named(model: type[Model], rows: Sequence[Model]) -> str:
    words = {
        "kinds": capfirst(model._meta.verbose_name_plural),
        "names": ", ".join(f"“{row}”" for row in rows[:NAMED]),
        "more": len(rows) - NAMED,
    }
    if len(rows) > COUNTED:
        return _("%(kinds)s: %(names)s and many more") % words
    if len(rows) > NAMED:
        return _("%(kinds)s: %(names)s and %(more)s more") % words
    return _("%(kinds)s: %(names)s") % words
