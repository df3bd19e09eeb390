"""docs/security.md against the code: its bounds are those of the code, and each has a test."""

import pytest

from tests.docs import bounds
from tests.docs.bounds import Bound
from tests.docs.pages import ROOT

ALL = [bound for _, some in bounds.by_origin() for bound in some]


def test_the_page_has_every_bound_as_it_is_in_the_code() -> None:
    page = bounds.PAGE.read_text(encoding="utf-8")
    assert bounds.written(page) == page  # else: make tables


@pytest.mark.parametrize("bound", ALL, ids=lambda bound: bound.what)
def test_every_bound_has_its_place_and_its_test(bound: Bound) -> None:
    assert (ROOT / "worker/postroom" / bound.where).is_file()
    file, _, function = bound.test.partition(" ")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert f"\ndef {function or 'test_'}" in text
