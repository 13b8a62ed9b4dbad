"""Reports that receivers sent, and what they say, summed up by day."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Report(models.Model):
    """One that was read: each once, by who wrote it and the number they gave it."""

    class Kind(models.TextChoices):
        DMARC = "dmarc", "DMARC"
        TLS = "tls", "TLS"

    kind = models.CharField(_("kind"), max_length=5, choices=Kind)
    # Its words, which nothing proves: a report may come from anybody.
    organisation = models.CharField(_("reporter"), max_length=200)
    report_id = models.CharField(_("number"), max_length=255)
    domain = models.CharField(_("domain"), max_length=253)
    policy = models.CharField(_("policy"), max_length=20, blank=True)
    begins_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("until"))
    # Mails, or sessions of TLS.
    good = models.BigIntegerField(_("in order"), default=0)
    bad = models.BigIntegerField(_("not in order"), default=0)
    received_at = models.DateTimeField(_("received"), auto_now_add=True)

    class Meta:
        verbose_name = _("report from a receiver")
        verbose_name_plural = _("reports from receivers")
        ordering = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=["dmarc", "tls"]), name="receivers_report_kind"),
            models.UniqueConstraint(fields=["kind", "organisation", "report_id", "domain"], name="receivers_report_once"),
        ]
        indexes: ClassVar = [
            # sums.py: the reports of a range of days; intake.forget(): the oldest.
            models.Index(fields=["kind", "begins_at"], name="receivers_report_days"),
        ]

    def __str__(self) -> str:
        return f"{self.organisation}: {self.domain}"


class Source(models.Model):
    """Mails that a receiver saw on a day from one address with a From of one domain, and what it found (DMARC)."""

    report = models.ForeignKey(Report, models.CASCADE, related_name="sources", verbose_name=_("report"))
    source_ip = models.GenericIPAddressField(_("address"))
    header_from = models.CharField(_("domain of the From"), max_length=253)
    disposition = models.CharField(_("what was done"), max_length=10)
    # Passed, and for the domain of the From: one is enough.
    dkim = models.BooleanField(_("DKIM"))
    spf = models.BooleanField(_("SPF"))
    dkim_domain = models.CharField(_("domain of DKIM"), max_length=253, blank=True)
    dkim_result = models.CharField(_("result of DKIM"), max_length=20, blank=True)
    spf_domain = models.CharField(_("domain of SPF"), max_length=253, blank=True)
    spf_result = models.CharField(_("result of SPF"), max_length=20, blank=True)
    reason = models.CharField(_("exception"), max_length=40, blank=True)
    count = models.BigIntegerField(_("mails"))

    class Meta:
        verbose_name = _("source of mail")
        verbose_name_plural = _("sources of mail")

    def __str__(self) -> str:
        return self.source_ip


class TLSFailure(models.Model):
    """Sessions in which a sender could not speak TLS with our server as our domain wants it (TLS-RPT)."""

    report = models.ForeignKey(Report, models.CASCADE, related_name="failures", verbose_name=_("report"))
    result = models.CharField(_("kind"), max_length=40)
    mx = models.CharField(_("our server"), max_length=253, blank=True)
    sending_ip = models.CharField(_("sending server"), max_length=45, blank=True)
    reason = models.CharField(_("detail"), max_length=200, blank=True)
    count = models.BigIntegerField(_("sessions"))

    class Meta:
        verbose_name = _("TLS failure")
        verbose_name_plural = _("TLS failures")

    def __str__(self) -> str:
        return self.result


class HostName(models.Model):
    """The name that an address has in the DNS, looked up when it first sent without passing."""

    address = models.GenericIPAddressField(_("address"), primary_key=True)
    #: "" where it has none
    name = models.CharField(_("host name"), max_length=255, blank=True)
    looked_up_at = models.DateTimeField(_("looked up"))

    class Meta:
        verbose_name = _("host name")
        verbose_name_plural = _("host names")

    def __str__(self) -> str:
        return self.name or self.address
