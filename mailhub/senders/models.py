"""WHO mail comes from."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mailhub.lib import addresses, clock, states
from mailhub.lib.headers import one_line
from mailhub.relays.models import IPPool, Route, Stream


class Domain(models.Model):
    name = models.CharField(_("name"), max_length=253, unique=True, help_text=_("The part after @ of your senders' addresses."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("domain")
        verbose_name_plural = _("domains")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Sender(models.Model):
    """A From address, and what the law wants shown with it."""

    class Status(models.TextChoices):
        UNCONFIRMED = "unconfirmed", _("unconfirmed")  # may not send: nobody has shown that the address is ours
        CONFIRMED = "confirmed", _("confirmed")  # may send
        DISABLED = "disabled", _("disabled")  # staff took it out of use

    MOVES: ClassVar = {
        Status.UNCONFIRMED: {Status.CONFIRMED, Status.DISABLED},
        Status.CONFIRMED: {Status.DISABLED},
        Status.DISABLED: {Status.CONFIRMED},
    }

    email = models.CharField(_("address"), max_length=320, unique=True)
    name = models.CharField(_("display name"), max_length=200, blank=True, validators=[one_line])
    domain = models.ForeignKey(Domain, models.PROTECT, related_name="senders", verbose_name=_("domain"), editable=False)
    reply_to = models.CharField(_("reply-to address"), max_length=320, blank=True)
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.UNCONFIRMED, editable=False)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True, blank=True, editable=False)
    # Shown in every campaign: Act on Regulation of Transmission of Specified Electronic Mail, article 4; CAN-SPAM, 16 CFR 316.
    organisation = models.CharField(
        _("organisation"), max_length=200, blank=True, help_text=_("Shown at the foot of campaigns, as the law asks.")
    )
    postal_address = models.TextField(_("postal address"), blank=True, help_text=_("Shown at the foot of campaigns, as the law asks."))
    contact_point = models.CharField(
        _("contact for complaints"), max_length=200, blank=True, help_text=_("A telephone number, mail address or page.")
    )
    pool = models.ForeignKey(IPPool, models.PROTECT, null=True, blank=True, related_name="senders", verbose_name=_("IP pool"))
    transactional_route = models.ForeignKey(
        Route,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("route for transactional mail"),
        help_text=_("Empty: the default route. A change takes effect at once, for waiting mail too."),
    )
    campaign_route = models.ForeignKey(
        Route,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("route for campaigns"),
        help_text=_("Empty: the default route. A change takes effect at once, for waiting mail too."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("sender")
        verbose_name_plural = _("senders")
        ordering = ["email"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["unconfirmed", "confirmed", "disabled"]), name="senders_sender_status"),
        ]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>" if self.name else self.email

    def clean(self) -> None:
        for field in ("email", "reply_to"):
            if value := getattr(self, field):
                try:
                    setattr(self, field, addresses.normalise(value))
                except ValidationError as error:
                    raise ValidationError({field: error}) from None

    def save(self, *args: object, **kwargs: object) -> None:
        self.domain = Domain.objects.get_or_create(name=addresses.domain(self.email))[0]
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def confirm(self) -> None:
        states.move(self, self.Status.CONFIRMED, moves=self.MOVES, confirmed_at=clock.now())

    def disable(self) -> None:
        states.move(self, self.Status.DISABLED, moves=self.MOVES)

    def route(self, stream: str) -> Route | None:
        """The route in force for `stream`: the sender's own, or else the stream's default; None when there is neither."""
        own = self.transactional_route if stream == Stream.TRANSACTIONAL else self.campaign_route
        return own or Route.objects.filter(default_for=stream).first()
