"""A campaign's words, frozen: what the law wants shown is part of them, whatever becomes of the sender's page."""

from __future__ import annotations

import html as markup
import json
import re
import uuid
from collections.abc import Callable, Sequence
from email.utils import quote

from django.conf import settings
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from campaigns.models import Campaign, MailingList
from mailhub.delivery import rendering, tracking
from mailhub.delivery.models import Content
from mailhub.senders.models import Sender

LINK = "unsubscribe_url"
BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
# Ends a string or a tag of the template language, or begins an element of HTML.
UNSAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "{}%#<>&"})
# RFC 5322 section 3.2.5: a phrase that needs no quotes.
PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")

FOOTER = (
    '<div style="margin:32px 0 0;padding:16px 0;border-top:1px solid #d5d9e0;color:#667085;font-size:12px;line-height:1.6;'
    'font-family:sans-serif">{paragraphs}</div>'
)
PARAGRAPH = '<p style="margin:0 0 8px">{}</p>'


def freeze(campaign: Campaign) -> Content:
    """An unsaved content. Raises jinja2.TemplateSyntaxError for templates with mistakes."""
    sender = campaign.sender
    lists = list(campaign.lists.order_by("pk"))
    with translation.override(campaign.language):
        html = _with_footer(campaign.html, sender, lists, _append_html, _html_lines) if campaign.html else ""
        text = _with_footer(campaign.text, sender, lists, _append_text, _text_lines) if campaign.text else ""
    content = Content(
        subject=_with_values(campaign.subject, sender),
        html=html,
        text=text,
        from_name=sender.name,
        from_email=sender.email,
        reply_to=sender.reply_to,
        headers=_headers(campaign, lists),
        unsubscribe_base=settings.MAILHUB_PUBLIC_URL + reverse("unsubscribe", args=["-"]).removesuffix("-"),
    )
    may = all(each.may_track for each in lists)
    host = sender.domain.link_host
    return tracking.switch_on(content, opens=campaign.tracks_opens and may, clicks=campaign.tracks_clicks and may, host=host)


# --------------------------------------------------------------------------------------------------------------- placeholders


def displayed(sender: Sender) -> dict[str, str]:
    """What the law wants every campaign to show of its sender: placeholder -> words. Article 4 of the Act on Regulation of
    Transmission of Specified Electronic Mail; CAN-SPAM, 15 U.S.C. 7704(a)(5)."""
    return {
        "organisation": " ".join(sender.organisation.split()),
        "postal_address": "\n".join(" ".join(line.split()) for line in sender.postal_address.splitlines() if line.strip()),
        "contact_point": " ".join(sender.contact_point.split()),
    }


def _literal(value: str) -> str:
    """`value` as a string of the template language, in which nothing ends a tag or begins an element."""
    return json.dumps(value, ensure_ascii=False).translate(UNSAFE)


def _with_values(source: str, sender: Sender) -> str:
    """`source` with values for those of displayed() that it names."""
    named = rendering.names(source)
    values = displayed(sender).items()
    return "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in values if name in named) + source


# --------------------------------------------------------------------------------------------------------------------- footer

Append = Callable[[str, Sequence[str]], str]
Lines = Callable[[Sender, Sequence[MailingList]], dict[str, str]]


def _with_footer(source: str, sender: Sender, lists: Sequence[MailingList], append: Append, lines: Lines) -> str:
    """`source` with what it does not show itself at its foot."""
    named = rendering.names(source)
    said = " ".join(markup.unescape(source).split())
    shown = {name for name, value in displayed(sender).items() if name in named or " ".join(value.split()) in said}
    if LINK in named:
        shown.add(LINK)
    return append(_with_values(source, sender), [line for name, line in lines(sender, lists).items() if name not in shown])


def _append_html(source: str, lines: Sequence[str]) -> str:
    if not lines:
        return source
    footer = FOOTER.format(paragraphs="".join(map(PARAGRAPH.format, lines)))
    ends = list(BODY_END.finditer(source))
    place = ends[-1].start() if ends else len(source)
    return source[:place] + footer + source[place:]


def _append_text(source: str, lines: Sequence[str]) -> str:
    if not lines:
        return source
    return source.rstrip("\n") + "\n\n-- \n" + "\n".join(lines) + "\n"


def _html_lines(sender: Sender, lists: Sequence[MailingList]) -> dict[str, str]:
    values = displayed(sender)
    leave, contact = markup.escape(_("Unsubscribe")), markup.escape(_("Contact:"))
    link = f'<a href="{{{{ {LINK} }}}}" style="color:#667085">{leave}</a>'
    return {
        LINK: f"{_shown(_why(lists))}<br>{link}",
        "organisation": _shown(values["organisation"]),
        "postal_address": "<br>".join(map(_shown, values["postal_address"].splitlines())),
        "contact_point": f"{contact} {_shown(values['contact_point'])}",
    }


def _text_lines(sender: Sender, lists: Sequence[MailingList]) -> dict[str, str]:
    values = displayed(sender)
    leave, contact = _("Unsubscribe:"), _("Contact:")
    return {
        LINK: f"{_shown(_why(lists))}\n{leave} {{{{ {LINK} }}}}\n",
        "organisation": _shown(values["organisation"]),
        "postal_address": "\n".join(map(_shown, values["postal_address"].splitlines())),
        "contact_point": f"{contact} {_shown(values['contact_point'])}",
    }


def _shown(value: str) -> str:
    return f"{{{{ {_literal(value)} }}}}"


def _why(lists: Sequence[MailingList]) -> str:
    names = pgettext("between things", ", ").join(each.name for each in lists)
    return _("You receive this mail because you are subscribed to: %(lists)s. You can unsubscribe at any time.") % {"lists": names}


# -------------------------------------------------------------------------------------------------------------------- headers


def _headers(campaign: Campaign, lists: Sequence[MailingList]) -> dict[str, str]:
    return {
        "List-Id": _list_id(campaign, lists),
        "Precedence": "bulk",
        # Exchange sends no out-of-office replies then.
        "X-Auto-Response-Suppress": "OOF, AutoReply",
        # Gmail's Postmaster Tools tell complaints apart by these, the last of which stays with the sender for ever (5 to 15 characters).
        "Feedback-ID": f"campaign{campaign.pk}:{_key(lists)[:15]}:bulk:sender{campaign.sender_id}",
    }


def _list_id(campaign: Campaign, lists: Sequence[MailingList]) -> str:
    """RFC 2919: the same for every campaign to the same lists, at a domain that is ours; 255 characters at most."""
    name = ", ".join(each.name for each in lists)[:100]
    if name.isascii() and not PHRASE.fullmatch(name):
        name = f'"{quote(name)}"'
    return f"{name} <{_key(lists)}.{campaign.sender.domain.name}>"


def _key(lists: Sequence[MailingList]) -> str:
    if len(lists) == 1:
        return lists[0].public_id.hex
    return uuid.uuid5(uuid.NAMESPACE_OID, " ".join(sorted(each.public_id.hex for each in lists))).hex
