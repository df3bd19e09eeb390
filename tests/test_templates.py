"""The starter templates, rendered from their samples: complete, safe, and readable where mail is read."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import TemplateFault
from postroom.mail.bodies import Bodies
from postroom.render import Templates

FOLDER = Path(__file__).parent.parent / "templates"
TEMPLATES = Templates(FOLDER)
OPTIONAL = {"welcome": {"account", "url", "steps"}}

pytestmark = pytest.mark.parametrize(
    "name", ["newsletter", "password_reset", "provisioning_completed", "provisioning_failed", "welcome"]
)


@pytest.fixture
def bodies(name: str) -> Bodies:
    return TEMPLATES.render(name, TEMPLATES.sample(name))


class Page(HTMLParser):
    """The elements of a page as (tag, attributes)."""

    def __init__(self, body: str | None) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        assert body
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)


def is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# Complete


def test_each_template_renders_from_its_sample_without_a_fault(name: str) -> None:
    assert TEMPLATES.check(name) == []


def test_each_template_has_a_short_subject_and_both_bodies(bodies: Bodies) -> None:
    assert 0 < len(bodies.subject) < 78
    assert bodies.html
    assert bodies.text


def test_nothing_is_left_unrendered(bodies: Bodies) -> None:
    for part in (bodies.subject, bodies.html, bodies.text):
        assert part
        assert not re.search(r"{{|}}|{%|%}|{#|#}|\bNone\b|\bundefined\b", part)


def test_every_value_of_the_sample_is_in_both_bodies(name: str, bodies: Bodies) -> None:
    for value in leaves(TEMPLATES.sample(name)):
        shown = datetime.fromisoformat(value).strftime("%d %B %Y, %H:%M %Z") if is_time(value) else value
        assert shown in html.unescape(bodies.html or "")
        assert shown in (bodies.text or "")


def test_a_missing_variable_is_named_with_file_and_line(name: str) -> None:
    sample = TEMPLATES.sample(name)
    for missing in sample.keys() - OPTIONAL.get(name, set()):
        with pytest.raises(TemplateFault, match=rf"^{name}/\w+\.(txt|html) line \d+.*: '{missing}' is undefined"):
            TEMPLATES.render(name, {key: value for key, value in sample.items() if key != missing})


def test_the_text_body_is_text(bodies: Bodies) -> None:
    text = bodies.text or ""
    assert not re.search(r"</?\w+[^>]*>|&\w+;", text)
    assert "\n\n\n\n" not in text
    assert not re.search(r"[ \t]\n", text)


def test_optional_variables_may_be_left_out(name: str) -> None:
    sample = TEMPLATES.sample(name)
    optional = OPTIONAL.get(name, set())
    bodies = TEMPLATES.render(name, {key: value for key, value in sample.items() if key not in optional})
    assert not any(value in str(bodies) for key in optional for value in leaves(sample[key]))


# Safe


def test_html_in_any_variable_is_escaped(name: str) -> None:
    def hostile(value: Any) -> Any:
        if isinstance(value, str):
            return value if is_time(value) else '"><script>x</script>'
        if isinstance(value, dict):
            return {key: hostile(inner) for key, inner in value.items()}
        return [hostile(inner) for inner in value] if isinstance(value, list) else value

    page = Page(TEMPLATES.render(name, hostile(TEMPLATES.sample(name))).html)
    assert page.all("script") == []


def test_nothing_is_loaded_from_anywhere(bodies: Bodies) -> None:
    page = Page(bodies.html)
    assert {tag for tag, _ in page.elements} & {"img", "link", "script", "iframe", "object", "video", "form"} == set()
    assert not any({"src", "background", "srcset"} & attributes.keys() for _, attributes in page.elements)
    assert not re.search(r"url\(|@import|@font-face", bodies.html or "")


# Readable


def test_outlook_can_lay_out_each_template(bodies: Bodies) -> None:
    # Word knows neither these nor a width in CSS alone; its rules: https://learn.microsoft.com/previous-versions/office/developer/office-2007/aa338201(v=office.12)
    assert not re.search(r"display:\s*(flex|grid)|position:|float:|var\(|calc\(", bodies.html or "")
    page = Page(bodies.html)
    for table in page.all("table"):
        assert {table.get("border"), table.get("cellpadding"), table.get("cellspacing")} == {"0"}
        assert table.get("role") == "presentation" or table.get("class") == "facts"
    assert all(cell.get("scope") == "row" and cell.get("width") for cell in page.all("th"))
    assert '<!--[if mso]><table role="presentation" width="600"' in (bodies.html or "")
    assert (bodies.html or "").count("<!--[if mso]>") == (bodies.html or "").count("<![endif]-->") == 3


def test_a_phone_and_a_dark_screen_have_rules_of_their_own(bodies: Bodies) -> None:
    page = Page(bodies.html)
    metas = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == metas["supported-color-schemes"] == "light dark"
    assert "@media (max-width: 600px)" in (bodies.html or "")
    assert "@media (prefers-color-scheme: dark)" in (bodies.html or "")


def test_each_template_has_its_language_a_title_and_a_preview_line(bodies: Bodies) -> None:
    assert Page(bodies.html).all("html")[0]["lang"] == "en"
    assert re.search(r"<title>[^<]+</title>", bodies.html or "")
    preheader = re.search(r'<div class="preheader"[^>]*>([\w ,.:]+)', bodies.html or "")
    assert preheader
    assert 20 < len(preheader[1].strip()) < 120


def test_every_colour_that_is_set_has_its_ground_set_too(bodies: Bodies) -> None:
    """White on white is what a half-set pair becomes in the dark."""
    for tag, attributes in Page(bodies.html).elements:
        if attributes.get("bgcolor"):
            assert f"background-color: {attributes['bgcolor']}" in (attributes.get("style") or ""), tag


def test_gmail_clips_no_template(bodies: Bodies) -> None:
    assert len((bodies.html or "").encode()) < 102_000


def test_a_brand_is_changed_in_one_file(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    brand = tmp_path / "_layout/brand.jinja"
    brand.write_text(brand.read_text().replace("Contoso", "Fabrikam").replace("#0b5cad", "#7a1fa2"))
    bodies = Templates(tmp_path).render(name, json.loads((FOLDER / name / "sample.json").read_text()))
    for part in (bodies.subject, bodies.html, bodies.text):
        assert "Contoso" not in (part or "")
    assert "Fabrikam" in (bodies.html or "")
    assert "Fabrikam" in (bodies.text or "")
    assert "#0b5cad" not in (bodies.html or "")
