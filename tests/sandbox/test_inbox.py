"""The pages, read as a browser would."""

from __future__ import annotations

from base64 import b64encode

import pytest
import requests

from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, mail

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def page(office: Office, path: str) -> requests.Response:
    return office.session.get(office.address.url + path, timeout=10)


def path_of_last(sandbox: Sandbox) -> str:
    return f"/messages/{sandbox.messages()[-1].id}"


def test_an_empty_inbox_tells_how_to_reach_it(office: Office) -> None:
    html = page(office, "/").text

    assert "No mail yet" in html
    assert office.address.ca_file in html


def test_the_inbox_lists_mail_newest_first(office: Office) -> None:
    office.send(mail(subject="Older"))
    office.send(mail(subject="Newer"))

    html = page(office, "/").text

    assert html.index("Newer</b>") < html.index("Older</b>")
    assert "2 mails" in html


@pytest.mark.parametrize("words", ["minutes", "AGREED", "ann fabrikam", "job-77", "plan.pdf"])
def test_the_search_looks_everywhere(words: str, office: Office) -> None:
    file = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "plan.pdf", "contentBytes": "YQ=="}
    office.send(mail(attachments=[file], internetMessageHeaders=[{"name": "x-postroom-job", "value": "job-77"}]))
    office.send(
        mail(subject="Else", body={"content": "nothing"}, toRecipients=[{"emailAddress": {"address": "b@c.d"}}])
    )

    html = office.session.get(f"{office.address.url}/", params={"q": words}, timeout=10).text

    assert "1 mail ·" in html
    assert "Minutes" in html


@pytest.mark.parametrize("tab", ["", "?tab=html", "?tab=text", "?tab=headers", "?tab=source", "?tab=attachments"])
def test_a_hostile_mail_is_shown_and_never_run(tab: str, office: Office, sandbox: Sandbox) -> None:
    file = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": HOSTILE,
        "contentType": HOSTILE,
        "contentBytes": "YQ==",
    }
    header = {"name": f"x-{HOSTILE}", "value": HOSTILE}
    hostile = {"emailAddress": {"name": HOSTILE, "address": "x@y.z"}}
    office.send(
        mail(
            subject=HOSTILE,
            toRecipients=[hostile],
            body={"contentType": "html", "content": HOSTILE},
            attachments=[file],
            internetMessageHeaders=[header],
            singleValueExtendedProperties=[{"id": "String 0x1042", "value": HOSTILE}],
        )
    )

    answer = page(office, path_of_last(sandbox) + tab)

    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script>alert" not in page(office, "/").text


def test_the_mails_html_is_served_where_no_script_runs(office: Office, sandbox: Sandbox) -> None:
    office.send(mail(body={"contentType": "html", "content": HOSTILE}))

    policy = page(office, path_of_last(sandbox) + "/html").headers["Content-Security-Policy"]

    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy
    assert 'sandbox="allow-popups' in page(office, path_of_last(sandbox)).text


def test_inline_images_are_shown_in_place(office: Office, sandbox: Sandbox) -> None:
    image = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": "logo.png",
        "contentType": "image/png",
        "contentBytes": b64encode(b"PNG").decode(),
        "isInline": True,
        "contentId": "logo@1",
    }
    html = "<html><head></head><img src='cid:logo@1'><img src='cid:other'></html>"
    office.send(mail(body={"contentType": "html", "content": html}, attachments=[image]))

    shown = page(office, path_of_last(sandbox) + "/html").text

    assert f"src='data:image/png;base64,{b64encode(b'PNG').decode()}'" in shown
    assert "cid:other" in shown
    assert '<head><base target="_blank">' in shown


def test_attachments_and_sources_are_downloads(office: Office, sandbox: Sandbox) -> None:
    file = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": 'ü";\r\n.html',
        "contentType": "text/html",
        "contentBytes": b64encode(b"<script>").decode(),
    }
    office.send(mail(attachments=[file]))

    answer = page(office, path_of_last(sandbox) + "/attachments/0")

    assert answer.content == b"<script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC%22%3B%0D%0A.html"
    assert b"toRecipients" in page(office, path_of_last(sandbox) + "/source").content


@pytest.mark.parametrize("path", ["/messages/none", "/messages/none/html", "/static/none", "/messages/none/source"])
def test_what_is_not_there_says_so(path: str, office: Office) -> None:
    answer = page(office, path)

    assert (answer.status_code, "Not here" in answer.text) == (404, True)


def test_the_room_shows_mailboxes_and_faults(office: Office, sandbox: Sandbox) -> None:
    office.send()
    sandbox.add_fault(status=429, retry_after=5, mailbox="office@contoso.com", times=2)

    html = page(office, "/room").text

    assert "office@contoso.com" in html
    assert "answers 429, Retry-After 5" in html
    assert "struck 0 of 0" in html


def test_a_fault_is_set_and_cleared_in_the_room(office: Office, sandbox: Sandbox) -> None:
    form = {"stage": "graph", "effect": "answer", "status": "429", "retry_after": "2.5", "times": "1", "accepted": "on"}
    office.session.post(f"{office.address.url}/room/faults", data=form, timeout=10)
    office.session.post(f"{office.address.url}/room/faults", data={"preset": "Entra is down"}, timeout=10)

    mine, preset = sandbox.faults()
    assert (mine["status"], mine["retry_after"], mine["times"], mine["accepted"]) == (429, 2.5, 1, True)
    assert (preset["stage"], preset["status"]) == ("token", 503)

    office.session.post(f"{office.address.url}/room/faults/{mine['id']}/remove", timeout=10)
    assert len(sandbox.faults()) == 1
    office.session.post(f"{office.address.url}/room/faults/clear", timeout=10)
    assert sandbox.faults() == []


def test_a_fault_that_makes_no_sense_is_explained_in_the_room(office: Office) -> None:
    answer = office.session.post(f"{office.address.url}/room/faults", data={"probability": "7"}, timeout=10)

    assert (answer.status_code, "it goes from 0 to 1" in answer.text) == (400, True)


def test_another_sites_page_turns_no_switch(office: Office, sandbox: Sandbox) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/room/faults/clear", "/room/reset", "/_sandbox/reset"):
        answer = office.session.post(office.address.url + path, headers=headers, timeout=10)
        assert answer.status_code == 403
