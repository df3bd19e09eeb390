"""Lists of recipients as spreadsheets and programs write them: their mails, and what is wrong in which line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postroom.cli.recipients import Columns, Recipients
from postroom.cli.tables import FileFault
from postroom.errors import TemplateFault
from postroom.mail.model import Mail

FIELDS = {"template": "welcome", "sender": "noreply@contoso.com"}


@pytest.fixture
def people(tmp_path: Path) -> Callable[..., Recipients]:
    def of(content: str | bytes, file: str = "people.csv", encoding: str | None = None, **columns: Any) -> Recipients:
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return Recipients.of(tmp_path / file, encoding, Columns(**({"variables": {}} | columns)), FIELDS)

    return of


def faults(people: Recipients, *, duplicates: bool = False) -> list[str]:
    return [str(fault) for fault in people.check(lambda _: None, duplicates=duplicates) if fault]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("E-Mail;Vorname\r\nann@contoso.com;Zoë\r\n".encode("utf-8-sig"), None),
        ("E-Mail\tVorname\r\nann@contoso.com\tZoë\r\n".encode("utf-16"), None),
        ("E-Mail;Vorname\r\nann@contoso.com;Zoë\r\n".encode("cp1252"), "cp1252"),
        ("sep=;\r\nE-Mail;Vorname\r\nann@contoso.com;Zoë\r\n", None),
        ('"E-Mail";"Vorname";;\nann@contoso.com;"Zoë"\n', None),
    ],
    ids=["UTF-8 with a mark", "UTF-16", "cp1252", "sep=", "quotes and empty columns"],
)
def test_what_excel_writes_is_read(people: Callable[..., Recipients], content: bytes, encoding: str | None) -> None:
    ((_, mail),) = people(content, encoding=encoding).mails()

    assert (mail.to, mail.variables) == (("ann@contoso.com",), {"Vorname": "Zoë"})


def test_columns_are_addresses_names_languages_and_variables_under_their_own_or_other_names(
    people: Callable[..., Recipients],
) -> None:
    content = 'Who,Full name,Lang,First name,city\nann@contoso.com,"Lee, Ann",de,Ann,Bonn\nbob@contoso.com,,,Bob,\n'
    columns = {
        "to": "Who",
        "name": "Full name",
        "locale": "Lang",
        "variables": {"name": "First name", "full": "Full name"},
    }

    mails = [mail for _, mail in people(content, **columns).mails()]

    assert [mail.to for mail in mails] == [('"Lee, Ann" <ann@contoso.com>',), ("bob@contoso.com",)]
    assert [mail.locale for mail in mails] == ["de", None]
    assert mails[0].variables == {"name": "Ann", "full": "Lee, Ann", "city": "Bonn"}
    assert mails[1].variables == {"name": "Bob", "full": "", "city": ""}


def test_a_column_of_names_is_a_variable_too(people: Callable[..., Recipients]) -> None:
    ((_, mail),) = people("email,name\nann@contoso.com,Ann Lee\n").mails()
    assert (mail.to, mail.variables) == (("ann@contoso.com",), {"name": "Ann Lee"})


def test_a_missing_cell_is_not_an_empty_one(people: Callable[..., Recipients]) -> None:
    content = "email,name,city\nann@contoso.com,Ann\nbob@contoso.com,,\n"

    mails = [mail for _, mail in people(content, variables={"first": "name", "town": "city"}).mails()]

    assert [mail.variables for mail in mails] == [{"first": "Ann"}, {"first": "", "town": ""}]


def test_json_lines_keep_values_of_any_kind(people: Callable[..., Recipients]) -> None:
    content = '{"email": "ann@contoso.com", "items": [{"n": 1}], "vip": true}\n\n{"email": "bob@contoso.com"}\n'

    found = list(people(content, "people.jsonl").mails())

    assert [(line, mail.variables) for line, mail in found] == [(1, {"items": [{"n": 1}], "vip": True}), (3, {})]


def test_each_wrong_line_is_named_and_empty_lines_do_not_count(people: Callable[..., Recipients]) -> None:
    content = (
        b"email,name\n\nann@@contoso.com,Ann\nann@contoso.com,Ann\n , \n,Bob\nANN@Contoso.com,Ann\n"
        b'bob@contoso.com,"Bob, B.",x\ncora@contoso.com,"Cora\nLee"\ndan@contoso.com,"Dan"x\n'
        b"eve@contoso.com,Ev\xe9\n"
    )

    assert [fault.partition(";")[0] for fault in faults(people(content))] == [
        "line 3: email: not an address: The part after the @-sign contains invalid characters: '@'.",
        "line 6: email: no address",
        "line 7: the same address as in line 4 (--duplicates, if that is meant)",
        "line 8: 3 cells for 2 columns (a ',' that is not in quotes?)",
        """line 11: not CSV: ',' expected after '"'""",
        "line 12: not UTF-8",
    ]


def test_wrong_json_lines_are_named(people: Callable[..., Recipients]) -> None:
    content = b'{"email": "ann@contoso.com"}\n[1]\n{"email": \n{"email": ["a"]}\n{"email": "\xe9"}\n'
    content += b"[" * 100_000 + b"\n"

    found = faults(people(content, "people.jsonl"))

    assert found[0] == 'line 2: not a JSON object, {"column": value, …}'
    assert [fault.partition(":")[0] for fault in found[1:]] == ["line 3", "line 4", "line 5", "line 6"]
    assert found[-1] == "line 6: not JSON: nested more than 180 levels deep"


def test_duplicates_are_accepted_where_they_are_asked_for(people: Callable[..., Recipients]) -> None:
    assert faults(people("email\na@contoso.com\nA@contoso.com\n"), duplicates=True) == []


def test_each_row_is_tried_with_its_template(people: Callable[..., Recipients]) -> None:
    def render(mail: Mail) -> None:
        if not mail.variables["name"]:
            raise TemplateFault("welcome/body.html line 3: a null would be written")

    found = people("email,name\na@contoso.com,A\nb@contoso.com,\n").check(render, duplicates=False)

    assert [str(fault) for fault in found if fault] == ["line 3: welcome/body.html line 3: a null would be written"]


@pytest.mark.parametrize(
    ("content", "columns", "fault"),
    [
        ("", {}, "is empty; its first line must name the columns"),
        ("email\n", {}, "has no row"),
        ("name\nAnn\n", {}, "which column has the addresses? there are 'name'; say so with --to-column"),
        ("mail,email\na,b\n", {}, "which column has the addresses? several could be it ('mail', 'email')"),
        ("email,email\na,b\n", {}, "line 1: the column 'email' is there twice"),
        ("email,,name\na,b,c\n", {}, "line 1: a column has no name"),
        ("email\na\n", {"to": "adress"}, "there is no column 'adress'; there are 'email'"),
        ("email\na\n", {"variables": {"x": "nix"}}, "there is no column 'nix'; there are 'email'"),
        (b"e\xe9,name\na,b\n", {}, "line 1: not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_a_list_of_people_says_why(
    people: Callable[..., Recipients], content: Any, columns: dict[str, Any], fault: str
) -> None:
    with pytest.raises(FileFault) as error:
        people(content, **columns)
    assert str(error.value).startswith(fault)


@pytest.mark.parametrize(
    ("encoding", "fault"), [("utf-99", "no such encoding"), ("utf-16", "cannot be read as utf-16")]
)
def test_a_wrong_encoding_is_reported(people: Callable[..., Recipients], encoding: str, fault: str) -> None:
    with pytest.raises(FileFault, match=fault):
        people("email\na@contoso.com\n", encoding=encoding)


def test_a_file_of_which_no_row_can_be_read_says_why(people: Callable[..., Recipients]) -> None:
    with pytest.raises(FileFault, match="no row that can be read: line 2: not UTF-8"):
        people("email;name\r\nann@contoso.com;Müller\r\n".encode("cp1252"))


def test_json_that_is_nested_too_deeply_is_a_fault_of_its_line(people: Callable[..., Recipients]) -> None:
    content = '{"to": "ann@contoso.com"}\n' + '{"a":' * 100_000 + "\n"
    (fault,) = faults(people(content, "people.jsonl"))
    assert fault.startswith("line 2: not JSON")
