import copy
import json
import os
import pickle
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import InvalidMail
from postroom.mail.address import Address
from postroom.mail.content import PIECE, AttachmentMissing, File, Stored, pieces
from postroom.mail.fields import needs_mime
from postroom.mail.model import Attachment, Mail, as_json

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HUGE = File(path=Path("plan.pdf"), size=120_000_000, modified_ns=0)
STORED = Stored(where="redis", name="job-1", number=0, piece=PIECE, size=3, sha256=sha256(b"abc").hexdigest())
PLAIN = {"from": "noreply@contoso.com", "to": ["ann@contoso.com"], "text": "Hello"}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def faults(**fields: object) -> list[str]:
    with pytest.raises(InvalidMail) as caught:
        Mail.model_validate(PLAIN | fields)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"to": []}, "to: no recipient"),
        ({"to": ["ann"]}, "to.0: not an address"),
        ({"to": ["ann@contoso.com\r\nBcc: eve@evil.example"]}, "to.0: line breaks"),
        ({"to": ["Ann\n <ann@contoso.com>"]}, "to.0: line breaks"),
        ({"to": [f"u{n}@contoso.com" for n in range(499)], "cc": ["a@b.de", "c@d.de"]}, "to: 501 recipients"),
        ({"from": "not an address"}, "from: not an address"),
        ({"from": "a@contoso.com", "sender": "b@contoso.com"}, "sender: given twice"),
        ({"subject": "Hello\r\nBcc: eve@evil.example"}, "subject: line breaks"),
        ({"text": "\x00"}, "text: control characters"),
        ({"text": "half an emoji: \ud83d"}, "text: half a surrogate pair"),
        ({"subject": "\ud83d"}, "subject: line breaks"),
        ({"to": ["\ud83d <ann@contoso.com>"]}, "to.0: line breaks"),
        ({"headers": {"X-A": "\ud83d"}}, "headers: X-A: line breaks"),
        ({"metadata": {"a": "\ud83d"}}, "metadata.a: line breaks"),
        ({"text": None, "template": "t", "variables": {"a": ["\ud83d"]}}, "variables: half a surrogate pair"),
        ({"text": None, "template": "t", "variables": {"a": float("nan")}}, "variables: Out of range"),
        ({"text": None}, "template: no content"),
        ({"template": "welcome"}, "template: given together with text"),
        ({"text": None, "template": "../../etc/passwd"}, "template: String should match"),
        ({"variables": {"a": 1}}, "variables: given without a template"),
        ({"text": None, "template": "t", "variables": {"a": object()}}, "variables"),
        ({"text": None, "template": "t", "variables": nested(181)}, "variables: nested more than 180 levels deep"),
        ({"text": None, "template": "t", "variables": nested(300)}, "variables: nested more than 180 levels deep"),
        ({"headers": {"Subject": "x"}}, "headers: Subject is set by"),
        ({"headers": {"Content-Type": "x"}}, "headers: Content-Type is set by"),
        ({"headers": {"x-postroom-job": "x"}}, "headers: x-postroom-job is set by"),
        ({"headers": {"X-A": "b\nc"}}, "headers: X-A: line breaks"),
        ({"headers": {"X A": "b"}}, "headers: 'X A' is no header name"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers: the same header twice"),
        ({"headers": {"List-Id": "x"}, "save_to_sent_items": False}, "save_to_sent_items: cannot be false"),
        ({"scheduled_at": "2026-11-22T12:00:00"}, "scheduled_at: a time without its zone"),
        ({"scheduled_at": NOON, "expires_at": NOON}, "expires_at: not after scheduled_at"),
        ({"scheduled_at": NOON.timestamp(), "expires_at": NOON.isoformat()}, "expires_at: not after scheduled_at"),
        ({"attachments": [{"filename": "a", "content": "no base64!"}]}, "attachments.0.content: a str here is read"),
        ({"attachments": [{"filename": "a\nb", "content": b""}]}, "attachments.0.filename: line breaks"),
        ({"attachments": [{"filename": "a", "content": b"", "content_type": "x"}]}, "attachments.0.content_type"),
        ({"attachments": [{"filename": "a", "content": HUGE}]}, "attachments: the mail takes 152.6 MB"),
        ({"attachments": [{"filename": "a", "content": Path("/no/such")}]}, "attachments.0.content: cannot read the"),
        ({"attachments": [{"filename": "a", "content": STORED.to_json()}]}, "attachments.0.content: bytes, base64 or"),
        ({"attachments": [Attachment("a", b"", content_id="i"), Attachment("b", b"", content_id="i")]}, "attachments:"),
        ({"importance": "urgent"}, "importance: must be 'low', 'normal' or 'high'"),
        ({"priority": "urgent"}, "priority: must be 'high', 'normal' or 'low'"),
        ({"recipient": "a@b.de"}, "recipient: no such field"),
        ({"sbject": "x"}, "sbject: no such field; did you mean subject?"),
    ],
)
def test_a_mail_that_graph_would_refuse_does_not_exist(fields: dict[str, object], fault: str) -> None:
    assert [said for said in faults(**fields) if said.startswith(fault)]


def test_one_error_names_every_fault() -> None:
    found = faults(to=["x"], template="t", subject="a\nb", scheduled_at="2026-01-01T00:00:00", nonsense=1)

    assert sorted(said.partition(":")[0] for said in found) == [
        "nonsense",
        "scheduled_at",
        "subject",
        "template",
        "to.0",
    ]


def test_no_fault_repeats_an_address_or_a_body() -> None:
    said = " ".join(faults(to=["secret.person@contoso.com\n"], text="secret body\x00"))

    assert "secret" not in said


def test_five_hundred_recipients_are_taken() -> None:
    mail = Mail.model_validate(PLAIN | {"to": [f"u{n}@contoso.com" for n in range(500)]})

    assert len(mail.recipients) == 500


def test_one_recipient_may_be_given_as_a_string() -> None:
    assert Mail(to="ann@contoso.com", text="x").to == ("ann@contoso.com",)


def test_a_mail_survives_json_pickle_and_copy() -> None:
    mail = Mail(
        sender="Post <noreply@contoso.com>",
        to=["Ann <ann@contoso.com>"],
        html="<p>ü</p>",
        attachments=[Attachment("a.pdf", b"\x00\xff", content_id="logo")],
        scheduled_at=NOON,
        expires_at=NOON + timedelta(hours=1),
        metadata={"order": "1"},
    )

    assert Mail.from_json(mail.to_json()) == mail
    assert pickle.loads(pickle.dumps(mail)) == mail
    assert copy.deepcopy(mail) == mail


def test_equal_mails_have_equal_json_whatever_the_order_of_their_parts() -> None:
    one = Mail(to="a@b.de", template="t", variables={"a": 1, "b": 2}, subject="s")
    other = Mail(subject="s", variables={"b": 2, "a": 1}, template="t", to=["a@b.de"])

    assert one.to_json() == other.to_json()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_written_as_every_version_wrote_it_for_its_digest_is_a_key(text: str) -> None:
    for one in (text, text + "x" * 1000):  # a long one is written by another library
        assert as_json(one) == json.dumps(one, ensure_ascii=False)


ADDRESSES = st.lists(st.sampled_from(["ann@b.de", "Ann Lee <ann@b.de>", 'Jörg "J" <j@b.de>']), min_size=1, max_size=3)


@given(ADDRESSES, ADDRESSES, st.sampled_from([{}, {"priority": "low"}, {"html": None}, {"tags": ["a"]}]))
def test_usual_fields_are_written_as_all_others_are(to: list[str], cc: list[str], more: dict[str, Any]) -> None:
    mail = Mail(**{"sender": to[0], "to": to, "cc": cc, "subject": "é", "text": "x"} | more)

    assert mail.to_texts() == {name: as_json(value) for name, value in mail.to_fields().items()}


def test_json_holds_only_fields_that_were_set() -> None:
    assert Mail(to="a@b.de", text="x").to_json() == '{"text":"x","to":["a@b.de"]}'


def test_the_digest_is_that_of_the_json_however_large_and_from_wherever_the_contents_come(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096  # three pieces, the last one incomplete
    (tmp_path / "a.bin").write_bytes(content)

    def mail(*contents: bytes | Path) -> Mail:
        return Mail(to="a@b.de", text="x", attachments=[Attachment(f"{i}", one) for i, one in enumerate(contents)])

    in_memory, in_a_file = mail(content, b"", b"a"), mail(tmp_path / "a.bin", b"", b"a")
    assert in_memory.digest() == in_a_file.digest() == sha256(in_memory.to_json().encode()).hexdigest()
    assert in_memory.digest() != mail(content, b"a", b"").digest()
    assert mail().digest() == sha256(mail().to_json().encode()).hexdigest()


def test_a_file_that_changes_after_the_mail_was_made_is_not_taken_for_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    attachment = Attachment("a.txt", path)
    assert (attachment.size, attachment.read(), attachment.read(1, 2)) == (3, b"abc", b"b")

    path.write_bytes(b"abcd")

    with pytest.raises(InvalidMail, match=r"a\.txt has changed"):
        attachment.read()
    path.unlink()
    with pytest.raises(InvalidMail, match=r"a\.txt cannot be read"):
        attachment.read()


def test_the_size_of_a_mail_is_counted_as_exchange_does() -> None:
    mail = Mail(to="a@b.de", text="ü", html="<p>", attachments=[Attachment("a", b"abcd"), Attachment("b", b"")])
    assert mail.size == 2 + 3 + 8


class Shelf:
    """A source that holds one content."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, stored: Stored, begin: int, end: int) -> bytes:
        return self.content[begin:end]


def test_stored_content_is_named_in_the_mail_and_read_from_its_place() -> None:
    mail = Mail(to="a@b.de", text="x", attachments=[Attachment("a", b"abc")]).with_contents({0: STORED})

    found = Mail.from_json(mail.to_json(), Shelf(b"abc"))

    assert found == mail
    assert '"YWJj"' not in mail.to_json()
    assert (found.attachments[0].read(), found.attachments[0].read(1)) == (b"abc", b"bc")
    assert list(pieces(found.attachments[0].content)) == [b"abc"]
    assert found.digest() == Mail(to="a@b.de", text="x", attachments=[Attachment("a", b"abc")]).digest()


def test_stored_content_that_is_not_what_was_taken_in_is_missing() -> None:
    mail = Mail(to="a@b.de", text="x", attachments=[Attachment("a", b"abc")]).with_contents({0: STORED})

    with pytest.raises(AttachmentMissing):
        Mail.from_json(mail.to_json(), Shelf(b"abX")).attachments[0].read()


def test_a_field_of_a_newer_version_is_left_out_when_read() -> None:
    assert Mail.from_json('{"to":["a@b.de"],"text":"x","hologram":true}') == Mail(to="a@b.de", text="x")


@pytest.mark.parametrize(
    "fields",
    [
        {"html": "<p>Hi</p>", "subject": "Hello"},
        {"text": "Hi", "cc": ["Bö <b@contoso.com>", '"Lee, Jo <x>" <j@contoso.com>'], "reply_to": "r@contoso.com"},
        {"template": "welcome", "variables": {"name": "Ann", "list": [1, {"a": None}]}, "locale": "de"},
        {"template": "welcome", "variables": nested(180)},
        {"text": "Hi", "priority": "high", "tags": ["a"], "headers": {"X-A": "b"}},
    ],
)
def test_a_stored_mail_is_read_as_it_was_written(fields: dict[str, Any]) -> None:
    mail = Mail(sender="Ann Lee <ann@contoso.com>", to=["bob@contoso.com", "Cy <cy@contoso.com>"], **fields)

    read = Mail.of_job(mail.to_json())

    assert read == mail
    assert read.to_json() == mail.to_json()
    assert [(to.name, to.address) for to in read.recipients] == [(to.name, to.address) for to in mail.recipients]


@pytest.mark.parametrize(
    "broken",
    [{"subject": 5}, {"html": ["a"]}, {"from": 7}, {"cc": [5]}, {"variables": []}, {"text": None}, {"to": "Hi\r\n"}],
    ids=str,
)
def test_a_stored_mail_that_somebody_broke_is_noticed(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidMail):
        Mail.of_job(json.dumps(PLAIN | broken))


@pytest.mark.parametrize("lost", ["to", "text"])
def test_a_stored_mail_that_lost_a_part_is_noticed(lost: str) -> None:
    with pytest.raises(InvalidMail):
        Mail.of_job(json.dumps({name: value for name, value in PLAIN.items() if name != lost}))


def test_a_content_type_is_guessed_from_the_name() -> None:
    assert Attachment("a.pdf", b"").mime_type == "application/pdf"
    assert Attachment("a.unheard-of", b"").mime_type == "application/octet-stream"


def test_a_default_sender_fills_in_and_its_absence_is_a_fault() -> None:
    mail = Mail(to="a@b.de", text="x")

    assert mail.with_sender(Address.parse("post@b.de")).sender == "post@b.de"
    with pytest.raises(InvalidMail, match="POSTROOM_SENDER"):
        mail.with_sender(None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, []),
        ({"X-A": "1", "x-b": "2", "X-C": "3", "X-D": "4"}, []),
        ({"X-A": "1", "X-B": "2", "X-C": "3", "X-D": "4", "X-E": "5"}, ["X-A", "X-B", "X-C", "X-D", "X-E"]),
        ({"List-Unsubscribe": "<https://x>", "X-A": "1"}, ["List-Unsubscribe"]),
        ({"X-A": "ü"}, ["X-A"]),
    ],
)
def test_mime_is_needed_for_what_json_cannot_carry(headers: dict[str, str], expected: list[str]) -> None:
    assert needs_mime(headers) == expected


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.lists(st.text()), st.integers())))
def test_whatever_is_given_a_mail_exists_or_invalid_mail_says_why(values: dict[str, object]) -> None:
    try:
        mail = Mail.model_validate(values)
    except InvalidMail as error:
        assert error.faults
    else:
        assert mail.recipients
        assert Mail.from_json(mail.to_json().encode()) == mail


@pytest.mark.parametrize("content_id", ["", "a b", "<a>", "a\x00", "\x7f", "a\n", "é", "i" * 201])
def test_a_content_id_is_printable_ascii(content_id: str) -> None:
    assert faults(attachments=[{"filename": "a", "content": b"", "content_id": content_id}])[0].startswith(
        "attachments.0.content_id"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({f"f{n}": 1 for n in range(100_000)}, "100000 fields that there are not; this is no mail"),
        ({"attachments": [{}] * 100_000}, "attachments: 100000 entries; at most 1000 are read"),
        ({"to": ["x"] * 100_000}, "to: 100000 entries; at most 1000 are read"),
        ({"metadata": dict.fromkeys(map(str, range(100_000)), 1)}, "metadata: 100000 entries; at most 1000 are read"),
    ],
    ids=["fields", "attachments", "to", "metadata"],
)
def test_very_many_faults_are_reported_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidMail) as wrong:
        Mail.model_validate({"from": "a@contoso.com", "text": "Hi", **given})

    assert wrong.value.faults == (told,)


def test_a_mail_has_at_most_a_hundred_headers() -> None:
    with pytest.raises(InvalidMail, match="headers"):
        Mail.model_validate(
            {"from": "a@b.de", "to": "c@d.de", "text": "Hi", "headers": {f"x-{n}": "1" for n in range(101)}}
        )


def test_a_sender_of_any_length_is_not_kept_in_memory() -> None:
    long = Mail.model_validate(PLAIN | {"from": f"{'A' * 400} <ann@contoso.com>"})
    usual = Mail.model_validate(PLAIN | {"from": "Ann <ann@contoso.com>"})

    assert usual.sender is Mail.model_validate(PLAIN | {"from": "Ann <ann@contoso.com>"}).sender
    assert long.sender is not Mail.model_validate(PLAIN | {"from": f"{'A' * 400} <ann@contoso.com>"}).sender


@pytest.mark.parametrize(
    "wrong",
    [
        {"where": "elsewhere"},
        {"name": "../../etc"},
        {"number": "/etc/passwd"},
        {"number": -1},
        {"number": True},
        {"piece": 0},
        {"sha256": "x"},
        {"size": 1.5},
    ],
)
def test_stored_content_is_strictly_typed(wrong: dict[str, object]) -> None:
    right = {"where": "folder", "name": "a-1", "number": 0, "piece": 9, "size": 9, "sha256": "0" * 64}
    assert Stored.from_json(right, None).number == 0
    with pytest.raises(ValueError, match=f"no usable {next(iter(wrong))}"):
        Stored.from_json(right | wrong, None)


@pytest.mark.parametrize(
    "to",
    [
        "Ann <ann@b.com>, Bob <bob@b.com>",
        "Ann <ann@b.com>; Bob <bob@b.com>",
        "ann@b.com, Bob <bob@b.com>",
        ["Ann <ann@b.com>, Bob <bob@b.com>"],
        ["ann@b.com", "Bob <bob@b.com>"],
    ],
)
def test_nobody_in_a_list_of_recipients_is_left_out(to: object) -> None:
    mail = Mail.model_validate({"sender": "a@b.com", "to": to, "cc": to, "reply_to": to, "text": "x"})

    for people in (mail.to, mail.cc, mail.reply_to):
        assert [one.address for one in people] == ["ann@b.com", "bob@b.com"]


def test_a_list_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidMail, match="to"):
        Mail(sender="a@b.com", to="Lee, Ann <ann@b.com>", text="x")


# What other programs give


@pytest.mark.parametrize(
    "kind", ["text/csv; charset=utf-8", 'text/plain; name="a b.txt"; x=1', "Text/HTML;charset=us-ascii"]
)
def test_a_content_type_may_have_parameters_which_older_workers_do_not_read(kind: str) -> None:
    made = Mail(to="ann@contoso.com", text="x", attachments=[Attachment("a", b"x", kind)])
    assert (made.attachments[0].mime_type, made.format, Mail.from_json(made.to_json())) == (kind, 2, made)
    assert Mail(to="ann@contoso.com", text="x", attachments=[Attachment("a", b"x", "text/csv")]).format == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"filename": "a\nb"}, "filename"),
        ({"filename": "x" * 300}, "filename"),
        ({"content_id": "a b"}, "content_id"),
        ({"content_type": "text"}, "content_type"),
        ({"content_type": "text/csv; charset"}, "content_type"),
        ({"content_type": "text/csv\r\nBcc: a@b.c"}, "content_type"),
        ({"content_type": "text/csv; a=" + "b" * 300}, "content_type"),
        ({"content": "no base64"}, "content"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_an_attachment_that_cannot_be_sent_is_an_invalid_mail_wherever_it_is_made(
    given: dict[str, Any], field: str
) -> None:
    fields = {"filename": "a", "content": b"x", **given}
    with pytest.raises(InvalidMail, match=f"^{field}: "):
        Attachment(**fields)
    with pytest.raises(InvalidMail, match=f"^attachments.0.{field}: .*; to: no recipient"):
        Mail.model_validate({"text": "x", "attachments": [fields]})


@pytest.mark.parametrize(
    "missing", [{"filename": "a"}, {"content": b"x"}, {"filename": "a", "content": b"x", 1: 2}, {}]
)
def test_an_attachment_that_is_none_is_named(missing: dict[Any, Any]) -> None:
    with pytest.raises(InvalidMail, match=r"attachments\.0"):
        Mail.model_validate({"to": "ann@contoso.com", "text": "x", "attachments": [missing]})


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_no_calendar_reaches_is_a_fault_of_its_field(time: str) -> None:
    for field in ("scheduled_at", "expires_at"):
        given = {"to": "ann@contoso.com", "text": "x", "scheduled_at": "2026-12-24T18:00Z", field: time}
        with pytest.raises(InvalidMail, match=f"{field}: a time that no calendar reaches"):
            Mail.model_validate(given)


def test_faults_of_names_that_are_no_text_can_be_told() -> None:
    for fields in ({"\ud800": 1}, {"headers": {"\ud800": "x"}}, {"metadata": {"\ud800": "x"}}):
        with pytest.raises(InvalidMail) as caught:
            Mail.model_validate({"to": "ann@contoso.com", "text": "x", **fields})
        assert str(caught.value).encode()


@pytest.mark.parametrize(
    "name",
    ["Received", "resent-to", "ARC-Seal", "DKIM-Signature", "Authentication-Results", "X-MS-Exchange-Organization-SCL"],
)
def test_a_new_mail_has_no_traces_of_a_way(name: str) -> None:
    with pytest.raises(InvalidMail, match=r"headers: .* is written by servers that pass a message on"):
        Mail(to="ann@contoso.com", text="x", headers={name: "x"})


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidMail, match="is no file but a pipe, device or folder; write its content into one"):
            Attachment("a", place)
