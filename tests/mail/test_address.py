from collections.abc import Callable

import pytest
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail.address import _SMALL, Address, _checked, _validated


def test_an_address_keeps_its_name_and_compares_without_case() -> None:
    address = Address.parse('"Lee, Ann" <Ann.Lee@Contoso.com>')

    assert (address.name, address.address, address.lane) == ("Lee, Ann", "Ann.Lee@contoso.com", "ann.lee@contoso.com")
    assert str(address) == '"Lee, Ann" <Ann.Lee@contoso.com>'
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jürgen Müller <a@b.com>", "Jürgen Müller"),
        ("Dr. Ann (Sales), Contoso: News <a@b.com>", "Dr. Ann (Sales), Contoso: News"),
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
