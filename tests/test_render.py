"""What a template may do, and what its author reads when it cannot be rendered."""

import os
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postroom.errors import TemplateFault
from postroom.mail.bodies import Bodies
from postroom.render import MAX_CHARACTERS, Templates

Write = Callable[..., Templates]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files given as {"welcome/body.txt": "…"}; a template without a subject gets one."""
    folder = tmp_path / "templates"

    def write(files: dict[str, str]) -> Templates:
        subjects = {f"{path.split('/')[0]}/subject.txt": "Hello" for path in files if not path.startswith("_")}
        for path, text in (subjects | files).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return Templates(folder)

    return write


def fault(templates: Templates, variables: dict[str, object] | None = None, name: str = "welcome") -> str:
    with pytest.raises(TemplateFault) as caught:
        templates.render(name, variables or {})
    return str(caught.value).replace(str(templates._folder), "templates")


# What comes out


def test_a_template_renders_to_subject_html_and_text(write: Write) -> None:
    templates = write(
        {
            "welcome/subject.txt": "Welcome, {{ name }}\n",
            "welcome/body.html": "<p>Hello {{ name }}</p>",
            "welcome/body.txt": "\nHello {{ name }}\n\n",
        }
    )
    assert templates.render("welcome", {"name": "Ann"}) == Bodies(
        subject="Welcome, Ann",
        html="<html><head></head><body><p>Hello Ann</p></body></html>",
        text="Hello Ann\n",
    )


def test_a_body_that_is_not_there_stays_none(write: Write) -> None:
    templates = write({"page/body.html": "<p>", "note/body.txt": "Hi"})
    assert templates.render("page", {}).text is None
    assert templates.render("note", {}).html is None


def test_variables_are_escaped_in_html_and_nowhere_else(write: Write) -> None:
    template = "{{ name }}"
    templates = write(
        {"welcome/subject.txt": template, "welcome/body.html": f"<p>{template}</p>", "welcome/body.txt": template}
    )
    bodies = templates.render("welcome", {"name": "<b>A&B</b>"})
    assert bodies.html is not None
    assert "<p>&lt;b&gt;A&amp;B&lt;/b&gt;</p>" in bodies.html
    assert (bodies.subject, bodies.text) == ("<b>A&B</b>", "<b>A&B</b>\n")


def test_styles_become_inline_and_media_queries_stay(write: Write) -> None:
    style = "<style>p { color: red } @media (max-width: 600px) { p { color: blue } }</style>"
    html = write({"welcome/body.html": f"{style}<p>Hi</p>"}).render("welcome", {}).html
    assert html is not None
    assert '<p style="color: red;">' in html
    assert "<style>@media (max-width: 600px) { p { color: blue } }</style>" in html


@pytest.mark.parametrize(
    "rule",
    [
        "a:hover { color: blue; }",
        "[data-ogsc] p { color: green; }",
        "u + .body p { color: green; }",
        "p::before { content: 'x'; }",
    ],
)
def test_rules_that_no_element_can_carry_stay_in_the_style_element(write: Write, rule: str) -> None:
    html = write({"welcome/body.html": f"<style>p {{ color: red }} {rule}</style><p>Hi</p>"}).render("welcome", {}).html
    assert html is not None
    assert '<p style="color: red;">' in html
    assert rule.partition(" {")[0] in html.partition("</style>")[0]
    assert "p { color: red" not in html


def test_a_rule_for_several_selectors_stays_for_those_that_cannot_be_inlined(write: Write) -> None:
    style = "<style>p, a:hover { color: red }</style>"
    html = write({"welcome/body.html": f"{style}<p>Hi</p>"}).render("welcome", {}).html
    assert html is not None
    assert '<p style="color: red;">' in html
    assert "a:hover" in html


def test_html_that_is_nested_too_deeply_is_a_fault_and_never_reaches_the_inliner(write: Write) -> None:
    templates = write({"welcome/body.html": "{{ html|safe }}"})
    assert "more than 1000 elements are open at once" in fault(templates, {"html": "<div>" * 20_000})
    assert "more than 1000 elements" in fault(templates, {"html": "</b><DIV class='a'>" * 2_000})
    for flat in ("<p>a" * 5_000, "<br>" * 5_000, "<div>a</div>" * 5_000, "<li><b>a</b>" * 5_000):
        assert templates.render("welcome", {"html": flat}).html


def test_the_inliner_reads_no_stylesheet_from_disk_or_net(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret.css").write_text("p { color: red }")
    links = f'<link rel="stylesheet" href="file://{tmp_path}/secret.css"><link rel="stylesheet" href="http://[::1]:9/">'
    html = write({"welcome/body.html": f"{links}<p>Hi</p>"}).render("welcome", {}).html
    assert html == "<html><head></head><body><p>Hi</p></body></html>"


def test_templates_extend_a_shared_layout_that_is_no_template_itself(write: Write) -> None:
    templates = write(
        {
            "_layout/base.html": "<h1>{% block title %}{% endblock %}</h1>",
            "welcome/body.html": '{% extends "_layout/base.html" %}{% block title %}Hi{% endblock %}',
        }
    )
    assert "<h1>Hi</h1>" in (templates.render("welcome", {}).html or "")
    assert templates.names() == ["welcome"]


def test_times_are_written_as_the_template_asks(write: Write) -> None:
    templates = write({"welcome/body.txt": '{{ at|date }}, {{ at|date("%d.%m.%Y %H:%M %Z") }}'})
    assert templates.render("welcome", {"at": "2026-11-22T09:30:00Z"}).text == (
        "22 November 2026, 22.11.2026 09:30 UTC\n"
    )


def test_a_changed_file_counts_from_the_next_mail_on(write: Write) -> None:
    templates = write({"_layout/base.txt": "old", "welcome/body.txt": '{% extends "_layout/base.txt" %}'})
    assert templates.render("welcome", {}).text == "old\n"
    layout = templates._folder / "_layout" / "base.txt"
    layout.write_text("new")
    os.utime(layout, (0, 0))
    assert templates.render("welcome", {}).text == "new\n"


def test_threads_share_one_templates(write: Write) -> None:
    templates = write({"welcome/body.html": "<style>p { color: red }</style><p>{{ n }}</p>"})
    together = threading.Barrier(4)

    def render(n: int) -> bool:
        together.wait(timeout=10)
        return f">{n}</p>" in (templates.render("welcome", {"n": n}).html or "")

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(render, range(40)))


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("de-AT", ("Servus", "Hallo")),
        ("de_at", ("Servus", "Hallo")),
        ("de-CH", ("Guten Tag", "Hallo")),
        ("fr", ("Hello", "Hello")),
        (None, ("Hello", "Hello")),
        ("../../etc", ("Hello", "Hello")),
    ],
)
def test_each_file_falls_back_to_the_language_and_then_to_the_plain_file(
    write: Write, locale: str | None, expected: tuple[str, str]
) -> None:
    templates = write(
        {
            "welcome/subject.de-AT.txt": "Servus",
            "welcome/subject.de.txt": "Guten Tag",
            "welcome/body.de.txt": "Hallo",
            "welcome/body.txt": "Hello",
        }
    )
    bodies = templates.render("welcome", {}, locale)
    assert (bodies.subject, bodies.text) == (expected[0], f"{expected[1]}\n")


def test_a_template_gets_the_locale_of_its_file(write: Write) -> None:
    templates = write({"welcome/body.de.txt": "[{{ locale }}]", "welcome/body.txt": "[{{ locale }}]"})
    assert templates.render("welcome", {}, "de-CH").text == "[de]\n"
    assert templates.render("welcome", {}, "fr").text == "[]\n"


# Error messages for the author of a template


def test_an_unknown_template_is_reported_with_the_most_similar_one(write: Write) -> None:
    templates = write({"welcome/body.txt": "Hi"})
    assert fault(templates, name="welcom") == ('no template "welcom"; did you mean "welcome"? (looked in templates/)')
    assert fault(templates, name="invoice") == 'no template "invoice" (looked in templates/)'


@pytest.mark.parametrize("name", ["../welcome", "/etc", "_layout", "welcome/../welcome", "", ".", "a\n"])
def test_a_name_that_is_a_path_is_no_template(write: Write, name: str) -> None:
    templates = write({"_layout/body.txt": "", "_layout/subject.txt": "", "welcome/body.txt": ""})
    assert fault(templates, name=name).startswith(f'no template "{name}"')


def test_a_missing_variable_is_reported_with_file_line_and_the_most_similar_one(write: Write) -> None:
    templates = write({"welcome/body.html": "<p>\nHello {{ nmae }}</p>"})
    assert fault(templates, {"name": "Ann", "url": "https://contoso.com"}) == (
        "welcome/body.html line 2: 'nmae' is undefined; but there is \"name\" (variables given: name, url)"
    )


def test_a_missing_field_of_a_variable_is_reported_with_the_most_similar_one(write: Write) -> None:
    templates = write({"welcome/body.txt": "{% for one in articles %}{{ one.titel }}{% endfor %}"})
    assert fault(templates, {"articles": [{"title": "A"}]}) == (
        "welcome/body.txt line 1: 'dict object' has no attribute 'titel'; but there is \"title\" "
        "(variables given: articles)"
    )


def test_a_fault_in_the_layout_names_both_files(write: Write) -> None:
    templates = write({"_layout/base.html": "\n{{ owner }}", "welcome/body.html": '{% extends "_layout/base.html" %}'})
    assert fault(templates) == (
        "welcome/body.html line 1 (in _layout/base.html line 2): 'owner' is undefined (variables given: none)"
    )


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("Hi\n{% fi %}", "line 2: Encountered unknown tag 'fi'."),
        ("{{ name|upcase }}", "line 1: No filter named 'upcase'."),
        ('Hi\n{% include "_layout/footer.txt" %}', 'line 2: no file "_layout/footer.txt" (looked in templates/)'),
        ("{{ name }}", "line 1: a null would be written; guard it with `if`, or give it a |default(…, true)"),
        ("{{ word|date }}", "line 1: date: not an ISO 8601 time such as 2026-11-22T09:30:00Z"),
        ("{{ word + 1 }}", 'line 1: can only concatenate str (not "int") to str'),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ('{% include "welcome/body.txt" %}', "line 1: it includes or calls itself without end"),
        ("{{ word.__class__ }}", "line 1: access to attribute '__class__' of 'str' object is unsafe."),
    ],
)
def test_any_other_fault_is_reported_with_file_and_line(write: Write, template: str, told: str) -> None:
    templates = write({"welcome/body.txt": template})
    assert fault(templates, {"name": None, "word": "tuesday"}) == f"welcome/body.txt {told}"


def test_no_fault_and_no_traceback_quotes_a_variable(write: Write) -> None:
    templates = write(
        {"welcome/body.txt": "{% set n = '%d' % secret %}", "welcome/body.html": "{{ [1].index(secret) }}"}
    )
    variables = {"secret": "hunter2"}
    with pytest.raises(TemplateFault) as caught:
        templates.render("welcome", variables)
    assert str(caught.value) == "welcome/body.html line 1: ValueError in an expression"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            "{{ names[email] }}",
            "it reads an attribute or element that is not there, by a name that an expression gives",
        ),
        ("{{ [][number] }}", "it reads an attribute or element that is not there, by a name that an expression gives"),
        ("{% include email %}", "no file of that name (looked in templates/)"),
        ("{% include [email, email|upper] %}", "no file of that name (looked in templates/)"),
        ("{{ ['a']|map(email)|list }}", "TemplateRuntimeError in an expression"),
        ("{{ dict(**{email: 1}).x }}", "'dict object' has no attribute 'x'"),
        ("{% macro m() %}{% endmacro %}{{ m(**{email: 1}) }}", "TypeError in an expression"),
        ("{{ [][5] }}", "list object has no element 5"),
        ("{% for n in names.items %}{% endfor %}", "'builtin_function_or_method' object is not iterable"),
        ("{{ [1, 'a']|sort }}", "'<' not supported between instances of 'str' and 'int'"),
    ],
)
def test_a_fault_names_only_what_stands_in_the_template(write: Write, template: str, told: str) -> None:
    said = fault(write({"welcome/body.txt": template}), {"names": {}, "email": "ann@contoso.com", "number": 1847})
    assert said.removesuffix(" (variables given: names, email, number)") == f"welcome/body.txt line 1: {told}"


def test_a_literal_name_is_reported_through_a_macro_of_another_file(write: Write) -> None:
    templates = write(
        {
            "_layout/macros.txt": "{% macro show(one, field) %}{{ one[field] }}{% endmacro %}",
            "welcome/body.txt": '{% from "_layout/macros.txt" import show %}{{ show(article, "titel") }}',
        }
    )
    assert "has no attribute 'titel'; but there is \"title\"" in fault(templates, {"article": {"title": "A"}})


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"welcome/sample.json": "{}"}, "welcome: no body; write welcome/body.html, welcome/body.txt or both"),
        ({"welcome/body.txt": "", "welcome/subject.txt": " \n"}, "welcome/subject.txt: the subject is empty"),
        (
            {"welcome/body.txt": "", "welcome/subject.txt": "{{ two }}"},
            "welcome/subject.txt: a line break or control character in the subject; keep it on one line",
        ),
    ],
)
def test_a_template_needs_a_subject_of_one_line_and_a_body(write: Write, files: dict[str, str], told: str) -> None:
    assert fault(write(files), {"two": "one\r\nBcc: eve@contoso.com"}) == told


def test_a_missing_subject_file_is_reported_with_its_path(write: Write) -> None:
    templates = write({"welcome/body.txt": "Hi"})
    (templates._folder / "welcome/subject.txt").unlink()
    assert fault(templates) == "welcome: no subject; write it into welcome/subject.txt"


def test_a_file_that_is_not_utf_8_is_reported(write: Write) -> None:
    templates = write({"welcome/body.txt": "Hi"})
    (templates._folder / "welcome/body.txt").write_bytes(b"Gr\xfc\xdfe")
    assert fault(templates) == "welcome/body.txt: welcome/body.txt is not UTF-8; save it as UTF-8"


def test_a_byte_order_mark_is_no_part_of_the_subject(write: Write) -> None:
    assert write({"welcome/subject.txt": "\ufeffHi", "welcome/body.txt": ""}).render("welcome", {}).subject == "Hi"


def test_a_fault_survives_pickling_to_a_result_backend(write: Write) -> None:
    with pytest.raises(TemplateFault) as caught:
        write({"welcome/body.txt": "{{ nmae }}"}).render("welcome", {})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_folder_that_is_gone_is_not_the_mails_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Templates(tmp_path / "unmounted").render("welcome", {})


def test_a_syntax_error_in_the_layout_names_both_files(write: Write) -> None:
    templates = write({"_layout/base.html": "\n{% fi %}", "welcome/body.html": '\n{% extends "_layout/base.html" %}'})
    assert fault(templates).startswith(
        "welcome/body.html line 2 (in _layout/base.html line 2): Encountered unknown tag"
    )


# What it cannot do


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for i in range(10**9) %}{{ i }}{% endfor %}", "** is not available in templates"),
        ("{% for i in range(1000000000) %}{{ i }}{% endfor %}", "Range too big."),
        ("{{ 'a' * 1000000000 }}", "a repetition to more than 100000 elements"),
        ("{{ n * [1] }}", "a repetition to more than 100000 elements"),
        ("{% for i in range(99999) %}{{ line }}{% endfor %}", f"more than {MAX_CHARACTERS} characters"),
    ],
)
def test_a_bomb_goes_off_in_the_template_and_not_in_the_worker(write: Write, template: str, told: str) -> None:
    assert told in fault(write({"welcome/body.txt": template}), {"n": 10**9, "line": "x" * 78})


def test_repeating_a_little_is_allowed(write: Write) -> None:
    templates = write({"welcome/body.txt": "{{ title }}\n{{ '=' * title|length }} {{ 2 * 3 }}"})
    assert templates.render("welcome", {"title": "News"}).text == "News\n==== 6\n"


def test_a_template_cannot_change_the_variables_of_the_next_one(write: Write) -> None:
    assert "unsafe" in fault(write({"welcome/body.txt": "{{ names.append('Eve') }}"}), {"names": ["Ann"]})


@pytest.mark.parametrize("path", ["../secret.txt", "/../secret.txt", "_layout/../../secret.txt", "SECRET"])
def test_no_file_outside_the_folder_can_be_included(write: Write, tmp_path: Path, path: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2")
    assert "no file" in fault(write({"welcome/body.txt": f'{{% include "{path.replace("SECRET", str(secret))}" %}}'}))


def test_a_link_that_leaves_the_folder_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    templates = write({"welcome/subject.txt": "Hi"})
    (templates._folder / "welcome/body.txt").symlink_to(tmp_path / "secret.txt")
    assert fault(templates) == (
        "welcome/body.txt: welcome/body.txt is a link that leaves the folder; put the file itself there"
    )


def test_a_folder_that_is_itself_a_link_may_be_swapped(write: Write, tmp_path: Path) -> None:
    write({"welcome/body.txt": "old"})._folder.rename(tmp_path / "v1")
    write({"welcome/body.txt": "new"})._folder.rename(tmp_path / "v2")
    current = tmp_path / "current"
    current.symlink_to("v1")
    templates = Templates(current)
    assert templates.render("welcome", {}).text == "old\n"
    current.unlink()
    current.symlink_to("v2")
    assert templates.render("welcome", {}).text == "new\n"


# Checking


def test_a_template_that_renders_from_its_sample_has_no_faults(write: Write) -> None:
    templates = write({"welcome/body.txt": "Hello {{ name }}", "welcome/sample.json": '{"name": "Ann"}'})
    assert templates.check("welcome") == []
    assert templates.sample("welcome") == {"name": "Ann"}


def test_a_check_tries_every_locale_and_tells_each_fault_once(write: Write) -> None:
    templates = write(
        {
            "welcome/body.txt": "Hello",
            "welcome/body.de-AT.txt": "Servus {{ anrede }}",
            "welcome/body.fr.txt": "{% if %}",
            "welcome/body.html": "{{ nmae }}",
            "welcome/subject.fr.txt": "Bonjour",
            "welcome/sample.json": '{"name": "Ann"}',
        }
    )
    assert templates.check("welcome") == [
        "welcome/body.html line 1: 'nmae' is undefined; but there is \"name\" (variables given: name)"
    ]
    (templates._folder / "welcome/body.html").unlink()
    assert templates.check("welcome") == [
        "welcome/body.de-AT.txt line 1: 'anrede' is undefined (variables given: name)",
        "welcome/body.fr.txt line 1: Expected an expression, got 'end of statement block'",
    ]


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (None, "welcome: no sample.json; write one with a value for each variable"),
        ('{"name": }', "welcome/sample.json is not JSON: Expecting value: line 1 column 10 (char 9)"),
        ("[]", 'welcome/sample.json is no object; write {"variable": value, …}'),
    ],
)
def test_a_sample_that_cannot_be_used_is_reported(write: Write, sample: str | None, told: str) -> None:
    files = {"welcome/body.txt": "Hi"} | ({"welcome/sample.json": sample} if sample else {})
    assert write(files).check("welcome") == [told]
