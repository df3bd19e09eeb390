from collections.abc import Callable

import pytest
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail.address import _SMALL, LONGEST, Address, _checked, _validated, split_list


def test_an_address_keeps_its_name_and_compares_without_case() -> None:
    address = Address.parse('"Lee, Ann" <Ann.Lee@Contoso.com>')

    assert (address.name, address.address, address.lane) == ("Lee, Ann", "Ann.Lee@contoso.com", "ann.lee@contoso.com")
    assert str(address) == '"Lee, Ann" <Ann.Lee@contoso.com>'
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jürgen Müller <a@b.com>", "Jürgen Müller"),
        ("Dr. Ann (Sales) [Contoso] <a@b.com>", "Dr. Ann (Sales) [Contoso]"),
        ('"Dr. Ann (Sales), Contoso: News" <a@b.com>', "Dr. Ann (Sales), Contoso: News"),
        ('"J. \\"R.\\" Smith" <a@b.com>', 'J. "R." Smith'),
        ('"\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} Zoë" <a@b.com>', "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} Zoë"),
        ("=?utf-8?b?SsO8cmdlbg==?= <a@b.com>", "Jürgen"),
        ("<a@b.com>", ""),
    ],
)
def test_a_display_name_may_be_any_name_that_people_have(text: str, name: str) -> None:
    address = Address.parse(text)

    assert (address.name, address.address) == (name, "a@b.com")
    assert Address.parse(str(address)) == address
    assert Address.parse(str(address)).name == name


def test_a_domain_has_one_form() -> None:
    assert Address.parse("Ann <ann@Bücher.example>") == Address.parse("Ann <ann@xn--bcher-kva.example>")


@pytest.mark.parametrize("text", ["ann@corp.local", "ann@localhost", "Ann <ann@mail.test>", "ann@Example.COM"])
def test_a_domain_that_is_not_public_is_an_address_too(text: str) -> None:
    assert Address.parse(text).lane in text.casefold()


PARTS = st.text(alphabet="aZ9_+-.%é'\"\\ @", min_size=0, max_size=70)
DOMAINS = st.sampled_from(["contoso.com", "CONTOSO.com", "münchen.de", "corp.local", "-a.de", "a..de", "localhost", ""])
LABELS = st.lists(st.text(alphabet="aZ09xn-é_", max_size=8) | st.sampled_from(["xn--", "a" * 63, "a" * 64, "TEST"]))


@given(local=PARTS | st.sampled_from(["Postmaster", "abuse"]), domain=DOMAINS | LABELS.map(".".join))
def test_the_quick_check_of_an_address_gives_what_the_whole_check_gives(local: str, domain: str) -> None:
    def checked(check: Callable[[str], str]) -> str | None:
        try:
            return check(f"{local}@{domain}")
        except ValueError:
            return None

    assert checked(_checked) == checked(_validated)


def test_the_names_written_in_small_letters_are_those_of_the_whole_check() -> None:
    assert set(CASE_INSENSITIVE_MAILBOX_NAMES) == _SMALL


@pytest.mark.parametrize(
    "text",
    [
        "Ann <ann@b.com>, Bob <bob@b.com>",
        "Ann <ann@b.com>; Bob <bob@b.com>",
        "ann@b.com, Bob <bob@b.com>",
        "Lee, Ann <ann@b.com>",
        "ann@b.com <bob@b.com>",
        "Team: ann@b.com;",
    ],
)
def test_what_may_be_several_addresses_is_never_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be quoted|not an address"):
        Address.parse(text)


def test_a_list_of_addresses_is_divided_where_it_is_not_quoted() -> None:
    assert split_list('"Lee, Ann" <ann@b.com>, bob@b.com;Cy <cy@b.com>,') == [
        '"Lee, Ann" <ann@b.com>',
        "bob@b.com",
        "Cy <cy@b.com>",
    ]
    assert split_list('"a \\" b, c" <a@b.com>, d@b.com') == ['"a \\" b, c" <a@b.com>', "d@b.com"]


@given(st.lists(st.builds(lambda name: Address(name, "a@b.com"), st.text(alphabet='ab,;<>@:"\\ ', max_size=9))))
def test_a_list_that_was_written_is_read_as_the_same_addresses(addresses: list[Address]) -> None:
    read = [Address.parse(one) for one in split_list(", ".join(addresses))]

    assert [one.address for one in read] == ["a@b.com"] * len(addresses)
    assert [one.name for one in read] == [one.name for one in addresses]


def test_an_endless_address_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ValueError, match=f"at most {LONGEST}"):
        Address.parse("=?utf-8?q?a?= " * 100_000 + "<a@b.com>")


@pytest.mark.parametrize("text", ["=?nope?q?a?= <a@b.com>", "=?utf-8?b?_?= <a@b.com>", "=?utf-8?q?=FF?= <a@b.com>"])
def test_a_name_that_cannot_be_decoded_is_no_foreign_exception(text: str) -> None:
    try:
        Address.parse(text)
    except ValueError as error:
        assert "RFC 2047" in str(error)


def test_a_name_is_decoded_once() -> None:
    address = Address.parse("=?utf-8?b?PT91dGYtOD9xP2E/PQ==?= <a@b.com>")

    assert address.name == "=?utf-8?q?a?="
    assert Address.stored(str(address)).name == address.name


def test_only_the_case_of_ascii_letters_does_not_count() -> None:
    assert Address.parse("SHOP@contoso.com").lane == "shop@contoso.com"
    assert Address.parse("\u017fhop@contoso.com").lane != "shop@contoso.com"
    assert Address.parse("stra\u00dfe@contoso.com").lane != "strasse@contoso.com"
