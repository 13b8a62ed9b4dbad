"""The shop that does not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db.models import Count, Model
from markupsafe import escape
from pytest_django import Settings

from campaigns import audience, contents, launch
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription, Template
from mailhub.delivery import prepare
from mailhub.delivery.models import Message, Suppression
from mailhub.delivery.rendering import Rendered
from mailhub.demo import people, receiver, sample
from mailhub.lib import clock
from mailhub.relays import providers
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from transactional import samples
from transactional.models import Project
from transactional.models import Template as TransactionalTemplate

MODELS: list[type[Model]] = [
    User, Relay, Route, RouteMember, Sender, MailingList, Contact, Consent, Subscription, Suppression, Template, Campaign,
    TransactionalTemplate, Project,
]  # fmt: skip


@pytest.fixture
def debug(settings: Settings) -> None:
    # pytest-django turns it off.
    settings.DEBUG = True


@pytest.fixture
def shop(db: None, debug: None) -> sample.Shop:
    return sample.load(200)


def rows() -> dict[str, list[object]]:
    return {model._meta.label: list(model._default_manager.order_by("pk").values()) for model in MODELS}


def test_to_load_it_twice_is_to_load_it_once(shop: sample.Shop) -> None:
    before = rows()
    assert all(before.values())
    assert sample.load(200) == shop
    assert rows() == before


def test_more_people_are_added_to_those_who_are_there(shop: sample.Shop) -> None:
    before = set(Contact.objects.values_list("pk", "email"))
    sample.load(300)
    assert Contact.objects.count() == 300 + sample.LEFT_OUT
    assert before < set(Contact.objects.values_list("pk", "email"))
    sample.load(200)
    assert Contact.objects.count() == 300 + sample.LEFT_OUT


def test_what_people_have_changed_stays(shop: sample.Shop) -> None:
    contact = audience_of(shop)[0]
    Contact.objects.filter(pk=contact.pk).update(name="Somebody Else")
    Subscription.objects.filter(contact=contact).update(status="unsubscribed", consent=None)
    Suppression.objects.all().delete()
    Sender.objects.filter(pk=shop.news.pk).update(organisation="Another")
    RouteMember.objects.update(weight=7)
    Template.objects.update(subject="Changed")
    Campaign.objects.update(subject="Changed")
    before = rows()
    sample.load(200)
    assert rows() == before


def audience_of(shop: sample.Shop) -> list[Contact]:
    return list(audience.recipients(sample.campaign(shop, "Letter")))


# --------------------------------------------------------------------------------------------------------------------- people


def test_a_thousand_get_the_campaign_and_others_are_left_out_for_every_reason(db: None, debug: None) -> None:
    shop = sample.load()
    count = audience.count(sample.campaign(shop, "Letter"))
    assert count.recipients == 1_000
    assert count.left_out == {"unsubscribed": 12, "no_consent": 7, "suppressed": 5}
    assert set(Suppression.objects.values_list("reason", flat=True)) == {"bounce", "complaint", "manual"}
    # Among them are addresses of every habit, so that the report has something to tell.
    habits = {receiver.habit(contact.email) for contact in audience.recipients(Campaign.objects.get(name="Letter"))}
    assert habits == {None, *(habit for _share, habit in receiver.HABITS)}


def test_every_contact_is_valid_and_of_a_domain_that_is_nobodys(shop: sample.Shop) -> None:
    for contact in Contact.objects.all():
        contact.full_clean()
        assert contact.email.rpartition("@")[2] in ("example.com", "example.org", "example.jp")
        assert contact.attributes["city"] and contact.attributes["points"] > 0


def test_half_of_them_are_japanese_by_name_language_and_place(shop: sample.Shop) -> None:
    assert Contact.objects.filter(language="ja").count() == Contact.objects.filter(language="en").count() == 112
    for contact in Contact.objects.all():
        assert contact.name.isascii() == (contact.language == "en")
        assert str(contact.attributes["city"]).isascii() == (contact.language == "en")


def test_people_are_told_apart() -> None:
    everybody = [people.person(number) for number in range(3_000)]
    assert len({person.email for person in everybody}) == 3_000
    assert len({person.name for person in everybody}) == 3_000


def test_every_subscription_that_counts_rests_on_a_consent_that_says_how_it_came_about(shop: sample.Shop) -> None:
    counting = Subscription.objects.filter(status="subscribed", consent__isnull=False).select_related("consent")
    assert counting.count() > 200
    for subscription in counting:
        consent = subscription.consent
        assert consent.basis == "opt_in" and consent.source and consent.text and consent.ip_address
        assert (consent.contact_id, consent.list_id) == (subscription.contact_id, subscription.list_id)
        assert consent.at == subscription.changed_at < clock.now()
    assert Consent.objects.filter(basis="withdrawn").count() == Subscription.objects.filter(status="unsubscribed").count() > 0


def test_both_lists_have_members_and_some_people_are_on_both(shop: sample.Shop) -> None:
    assert all(each.contacts.count() > 100 for each in MailingList.objects.all())
    on_both = Contact.objects.annotate(n=Count("lists")).filter(n=2).count()
    assert on_both == 25


# ---------------------------------------------------------------------------------------------------------------------- words

Words = Callable[[Contact], Rendered]


@pytest.fixture
def words(shop: sample.Shop) -> Words:
    compiled = prepare.Compiled(contents.freeze(sample.campaign(shop, "Letter")))

    def words(contact: Contact) -> Rendered:
        message = Message(address=contact.email, recipient_ref=contact.pk, data=contact.data, created_at=clock.now())
        assert compiled.envelope(message).data.isascii()
        return compiled.words.render({**contact.data, "email": contact.email, "unsubscribe_url": "https://mail.example/u/link"})

    return words


def test_each_reads_the_campaign_in_their_own_language(shop: sample.Shop, words: Words) -> None:
    for contact in audience_of(shop):
        said = words(contact)
        assert escape(contact.name) in said.html and contact.name in said.text
        assert f'<html lang="{contact.language}"' in said.html
        assert ("first flush" in said.html) == (contact.language == "en")
        assert ("ご愛顧" in said.html) == (contact.language == "ja")
        assert ("favourite" in contact.attributes) == (str(contact.attributes.get("favourite")) in said.text)
        assert "{" not in said.text + said.subject


def test_what_the_law_wants_shown_stands_in_the_letters_own_foot(shop: sample.Shop, words: Words) -> None:
    for contact in audience_of(shop)[:2]:
        said = words(contact)
        for wanted in ("https://mail.example/u/link", "support@shop.example.com", "Ryokuchado Co., Ltd.", "東京都千代田区"):
            assert said.html.count(wanted) >= 1
            assert said.text.count(wanted) == 1


def test_nothing_speaks_against_sending(shop: sample.Shop, settings: Settings) -> None:
    settings.PUBLIC_HTTPS = True
    assert set(Campaign.objects.filter(status="draft").values_list("language", flat=True)) == {"en", "ja"}
    for draft in [*Campaign.objects.all(), sample.campaign(shop, "Letter")]:
        # Its domain is nobody's: what its DNS says of the relays was never looked up.
        assert {(problem.level, problem.field) for problem in launch.check(draft)} == {("warning", "route")}


def test_the_letters_rules_are_in_their_elements(shop: sample.Shop, words: Words) -> None:
    html = words(audience_of(shop)[0]).html
    assert "@media" in html
    assert '<td class="hero" style="' in html
    assert html.count("<html") == html.count("<body") == 1


def test_templates_are_there_in_both_languages(shop: sample.Shop) -> None:
    for template in Template.objects.all():
        template.full_clean()
    assert set(Template.objects.values_list("language", flat=True)) == {"en", "ja"}
    found = set(TransactionalTemplate.objects.values_list("key", "language"))
    assert found == {(key, language) for key in samples.KEYS for language in ("en", "ja")}


# --------------------------------------------------------------------------------------------------------- relays and senders


def test_two_relays_share_the_campaigns_and_lead_to_the_receiver_only(shop: sample.Shop) -> None:
    route = shop.news.route(Stream.CAMPAIGN)
    assert [(member.relay.name, member.position) for member in route.members.order_by("relay__name")] == [
        ("Demo relay A", 1),
        ("Demo relay B", 1),
    ]
    assert shop.orders.route(Stream.TRANSACTIONAL).members.count() == 2
    for relay in route.relays.all():
        form = providers.load("smtp").options_form
        initial = {name: field.initial for name, field in form.base_fields.items()}
        assert form({**initial, **relay.options}).errors == {}
        assert (relay.kind, relay.options["host"], relay.options["port"]) == ("smtp", "127.0.0.1", receiver.PORT)


def test_whatever_was_tried_on_the_relays_is_undone(shop: sample.Shop) -> None:
    relay = Relay.objects.get(name="Demo relay A")
    relay.options["host"], relay.secrets = "smtp.provider.example", {"password": "secret"}
    relay.save()
    relay.pause()
    sample.load(200, port=2626)
    relay.refresh_from_db()
    assert relay.options["host"] == "127.0.0.1" and relay.options["port"] == 2626
    assert relay.secrets == {} and relay.is_available(clock.now())


def test_routes_that_are_default_already_stay_so(db: None, debug: None) -> None:
    own = Route.objects.create(name="Ours", default_for=Stream.CAMPAIGN)
    shop = sample.load(1)
    own.refresh_from_db()
    assert own.default_for == Stream.CAMPAIGN
    assert shop.news.route(Stream.CAMPAIGN).name == "Demo: campaigns"
    assert Route.objects.get(default_for=Stream.TRANSACTIONAL).name == "Demo: transactional"


def test_senders_are_confirmed_and_the_project_may_use_them(shop: sample.Shop) -> None:
    assert {shop.news.status, shop.orders.status} == {"confirmed"}
    assert set(shop.project.senders.all()) == {shop.news, shop.orders}


def test_the_customers_of_the_transactional_mails_take_mail_and_are_no_contacts(db: None, debug: None) -> None:
    sample.load()
    for customer in sample.CUSTOMERS.values():
        assert receiver.habit(customer) is None
        assert not Contact.objects.filter(email=customer).exists()


# ---------------------------------------------------------------------------------------------------------------------- login


def test_the_login_may_do_everything_and_its_password_is_this_installations_own(shop: sample.Shop, settings: Settings) -> None:
    user = User.objects.get(username="demo")
    assert user.is_staff and user.is_superuser and user.check_password(sample.password())
    here = sample.password()
    assert len(here) == 14
    settings.SECRET_KEY = "another installation's"
    assert sample.password() != here
    assert not sample.is_loaded()
    sample.login()
    assert sample.is_loaded()


def test_a_login_that_was_locked_out_is_put_right(shop: sample.Shop) -> None:
    User.objects.update(is_active=False)
    assert not sample.is_loaded()
    sample.load(200)
    assert sample.is_loaded()


def test_nothing_of_it_happens_in_production(db: None) -> None:
    assert not django_settings.DEBUG
    with pytest.raises(sample.InProduction, match="DEBUG"):
        sample.load(10)
    assert not User.objects.exists() and not Contact.objects.exists() and not Relay.objects.exists()
    with pytest.raises(sample.InProduction):
        sample.login()


def test_a_login_that_was_brought_along_is_not_told_in_production(shop: sample.Shop, settings: Settings) -> None:
    assert sample.is_loaded()
    settings.DEBUG = False
    assert not sample.is_loaded()
