"""Users and groups in the admin, where what they may do is said in the language of the page: the database has it in English alone."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import ReadOnlyPasswordHashField, ReadOnlyPasswordHashWidget, UserChangeForm
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import Group, Permission, User
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest
from django.utils.translation import gettext, gettext_lazy

# The permissions that Django makes for every model: what their codenames begin with -> their words.
WORDS = {
    "add": gettext_lazy("Can add %(names)s"),
    "change": gettext_lazy("Can change %(names)s"),
    "delete": gettext_lazy("Can delete %(names)s"),
    "view": gettext_lazy("Can view %(names)s"),
}


class PermissionsField(ModelMultipleChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Permission) -> str:
        model = obj.content_type.model_class()
        if model is None:
            return str(obj)
        deed = obj.codename.removesuffix(f"_{model._meta.model_name}")
        # Of the models' own permissions the names are in the catalogue, since Meta.permissions has them as lazy words.
        words = WORDS[deed] % {"names": model._meta.verbose_name_plural} if deed in WORDS else gettext(obj.name)
        return f"{apps.get_app_config(model._meta.app_label).verbose_name} | {words}"


class WithPermissions(admin.ModelAdmin[Any]):
    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        if db_field.related_model is Permission:
            kwargs |= {"form_class": PermissionsField, "queryset": Permission.objects.select_related("content_type")}
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[arg-type]


class PasswordWidget(ReadOnlyPasswordHashWidget):
    """Whether there is a password. How it is hashed is nothing that anybody could do something about."""

    def get_context(self, name: str, value: str, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        if value and is_password_usable(value):
            context["summary"] = [{"label": gettext("A password is set.")}]
        return context


class UserForm(UserChangeForm):  # type: ignore[type-arg]
    password = ReadOnlyPasswordHashField(
        label=gettext_lazy("Password"),
        widget=PasswordWidget,
        help_text=gettext_lazy("Nobody can see it. Set another one for who has lost it."),
    )


admin.site.unregister([User, Group])


@admin.register(User)
class OurUserAdmin(WithPermissions, UserAdmin):  # type: ignore[type-arg]
    form = UserForm


@admin.register(Group)
class OurGroupAdmin(WithPermissions, GroupAdmin):
    pass
