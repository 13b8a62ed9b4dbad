"""WHO mail comes from."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from secrets import token_hex
from typing import ClassVar, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import addresses, clock, states
from mailhub.lib.fields import EncryptedJSONField
from mailhub.lib.headers import one_line
from mailhub.relays.models import IPPool, Route, Stream


class Domain(models.Model):
    name = models.CharField(_("name"), max_length=253, unique=True, help_text=_("The part after @ of your senders' addresses."))
    # Each mail gets a return path of its own below it (return_path.py).
    bounce_address = models.CharField(
        _("bounce address"),
        max_length=320,
        blank=True,
        default="",
        db_default="",
        help_text=_(
            "Where bounces come to, as bounces@bounce.example.com. Its server has to take bounces+anything@ for it too, and hand it to"
            " MailHub."
            " Empty: bounces go to the sender's own address."
        ),
    )
    # What stands in links and pixels in place of MailHub's own host, so that they show the sender's name (delivery/tracking.py).
    link_host = models.CharField(
        _("host for links"),
        max_length=253,
        blank=True,
        default="",
        db_default="",
        help_text=_(
            "Tracked links and opens in mails of this domain lead by way of it, as links.example.com. It has to lead to MailHub by https."
            " Empty: MailHub's own address."
        ),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # When its records were last looked at, all of them.
    checked_at = models.DateTimeField(_("records checked"), null=True, blank=True, editable=False)
    # Its DNS has shown that it is ours to use: its senders need no mail to be confirmed.
    verified_at = models.DateTimeField(_("shown to be ours"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("domain")
        verbose_name_plural = _("domains")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Kind(models.TextChoices):
    """What of a domain's DNS is looked at."""

    OWNERSHIP = "ownership", _("ownership")
    SPF = "spf", "SPF"
    DKIM = "dkim", "DKIM"
    DMARC = "dmarc", "DMARC"
    EXISTENCE = "existence", _("the domain itself")
    BOUNCES = "bounces", _("return path")
    LINKS = "links", _("links in mails")
    PTR = "ptr", _("sending addresses")
    MTA_STS = "mta_sts", "MTA-STS"
    TLS_RPT = "tls_rpt", "TLS-RPT"


class Verdict(models.TextChoices):
    PASS = "pass", pgettext_lazy("verdict", "in order")  # noqa: S105
    ADVICE = "advice", pgettext_lazy("verdict", "advised")  # works without; better with it
    MISSING = "missing", pgettext_lazy("verdict", "missing")
    WRONG = "wrong", pgettext_lazy("verdict", "wrong")
    UNKNOWN = "unknown", pgettext_lazy("verdict", "could not be looked up")


class Finding(models.Model):
    """One of a domain's records, as it was when last looked at (records.py looks, verdicts.py keeps)."""

    domain = models.ForeignKey(Domain, models.CASCADE, related_name="findings", verbose_name=_("domain"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    # Where in the DNS.
    name = models.CharField(_("name"), max_length=255)
    # Record type: TXT, A, PTR ...
    type = models.CharField(_("record type"), max_length=5, blank=True)
    # What is to be published there; empty when nothing is.
    wanted = models.TextField(_("to be published"), blank=True)
    # What is published there, a line a record.
    found = models.TextField(_("published"), blank=True)
    verdict = models.CharField(_("verdict"), max_length=8, choices=Verdict)
    # A key of records.PROBLEMS, and what its words name; empty when there is none.
    problem = models.CharField(max_length=30, blank=True)
    about = models.JSONField(default=dict, blank=True)
    # Since when the verdict is this one.
    since = models.DateTimeField(_("since"))
    # It was in order once: what was never set up has not got worse (watching/).
    was_good = models.BooleanField(default=False, db_default=False, editable=False)
    # The last check could not see it: what stands here is what was there before.
    stale = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("DNS record")
        verbose_name_plural = _("DNS records")
        ordering = ["id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="senders_finding_verdict"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="senders_finding_kind"),
            models.UniqueConstraint(fields=["domain", "kind", "name"], name="senders_finding_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


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


# -------------------------------------------------------------------------------------------------------------------- DKIM

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

# RFC 6376 section 3.1; in lower case, since the DNS tells no other from it.
SELECTOR = r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z"
# RFC 1035 section 2.3.4, as text.
LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A TXT record as it is to be published."""

    #: full name, without a dot at its end
    name: str
    #: what receivers read: its strings, joined with nothing between them
    value: str

    @property
    def strings(self) -> list[str]:
        """`value` in strings of at most 255 octets, as the DNS holds it (RFC 1035 section 3.3)."""
        return [self.value[at : at + 255] for at in range(0, len(self.value), 255)]


class DKIMKey(models.Model):
    """A key that signs the mail of a domain and of those below it (RFC 6376)."""

    class Algorithm(models.TextChoices):
        RSA = "rsa-sha256", _("RSA, 2048 bits")  # what everybody verifies
        ED25519 = "ed25519-sha256", _("Ed25519")  # RFC 8463, a second signature beside it

    class Status(models.TextChoices):
        NEW = "new", _("new")  # signs nothing yet: first its record has to be published
        SIGNING = "signing", _("signing")  # signs every mail of its domain
        RETIRED = "retired", _("retired")  # signs no more; its record stays until the last mail that it signed has arrived

    MOVES: ClassVar = {
        Status.NEW: {Status.SIGNING, Status.RETIRED},
        Status.SIGNING: {Status.RETIRED},
        Status.RETIRED: set(),
    }

    domain = models.ForeignKey(Domain, models.CASCADE, related_name="dkim_keys", verbose_name=_("domain"))
    selector = models.CharField(
        _("selector"),
        max_length=200,
        validators=[RegexValidator(SELECTOR, _("Use lower-case letters, digits and hyphens, with dots between the parts of the name."))],
        help_text=_("Names the key among those of the domain, in signatures and in the DNS."),
    )
    algorithm = models.CharField(_("algorithm"), max_length=20, choices=Algorithm, default=Algorithm.RSA)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.NEW, editable=False)
    # PEM, PKCS #8.
    private_key = EncryptedJSONField(_("private key"), editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    signing_since = models.DateTimeField(_("signing since"), null=True, blank=True, editable=False)
    retired_at = models.DateTimeField(_("retired"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("DKIM key")
        verbose_name_plural = _("DKIM keys")
        ordering = ["domain", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(status__in=["new", "signing", "retired"]), name="senders_dkimkey_status"),
            models.CheckConstraint(condition=Q(algorithm__in=["rsa-sha256", "ed25519-sha256"]), name="senders_dkimkey_algorithm"),
            models.UniqueConstraint(fields=["domain", "selector"], name="senders_dkimkey_selector"),
            # Its index is also what dkim.signers() reads.
            models.UniqueConstraint(fields=["domain", "algorithm"], condition=Q(status="signing"), name="senders_dkimkey_signing"),
        ]

    def __str__(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @classmethod
    def make(cls, domain: Domain, algorithm: str = Algorithm.RSA, selector: str = "") -> DKIMKey:
        """A new key for `domain`, with a selector of our own unless one is given. Raises ValidationError for a bad or used selector."""
        private: PrivateKey = (
            ed25519.Ed25519PrivateKey.generate() if algorithm == cls.Algorithm.ED25519 else rsa.generate_private_key(65537, 2048)
        )
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        # The date for people who look after a zone; the rest for a second key on one day.
        selector = selector or f"mh{clock.now():%Y%m%d}-{token_hex(3)}"
        key = cls(domain=domain, algorithm=algorithm, selector=selector, private_key=pem.decode())
        key.full_clean()
        key.save()
        return key

    def clean(self) -> None:
        if len(str(self)) > LONGEST_NAME:
            raise ValidationError({"selector": _("The selector is too long: with the domain it makes a name that the DNS cannot hold.")})

    def sign_from_now_on(self) -> None:
        """Take the place of the key that signs now, which retires. The record must be published already."""
        with transaction.atomic():
            # Of two keys at once, one waits here.
            Domain.objects.select_for_update().get(pk=self.domain_id)
            now = clock.now()
            present = DKIMKey.objects.filter(domain=self.domain_id, algorithm=self.algorithm, status=self.Status.SIGNING)
            present.exclude(pk=self.pk).update(status=self.Status.RETIRED, retired_at=now)
            states.move(self, self.Status.SIGNING, moves=self.MOVES, signing_since=now)

    def retire(self) -> None:
        """Sign no more. With no other key in force the domain's mail goes unsigned."""
        states.move(self, self.Status.RETIRED, moves=self.MOVES, retired_at=clock.now())

    def private(self) -> PrivateKey:
        # Not checked again, which would take 30 ms: the ciphertext is authenticated, so this is the key that make() stored.
        key = serialization.load_pem_private_key(self.private_key.encode(), None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, PrivateKey)  # noqa: S101
        return key

    def record(self) -> TextRecord:
        """What has to stand in the DNS for the key's signatures to verify (RFC 6376 section 3.6.1, RFC 8463 section 4)."""
        public = self.private().public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            kind, octets = "ed25519", public.public_bytes_raw()
        else:
            kind = "rsa"
            octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return TextRecord(str(self), f"v=DKIM1; k={kind}; p={b64encode(octets).decode()}")
