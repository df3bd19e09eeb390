"""Each fault, observed from the client's side."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from msal.exceptions import MsalServiceError

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        ({}, 503, "ErrorServerBusy"),
        ({"status": 429}, 429, "ApplicationThrottled"),
        ({"code": "ErrorSendAsDenied"}, 403, "ErrorSendAsDenied"),
        ({"status": 500, "code": "ErrorMailboxMoveInProgress"}, 500, "ErrorMailboxMoveInProgress"),
        ({"status": 429, "code": "UnknownError", "message": ""}, 429, "UnknownError"),
    ],
)
def test_an_answer_takes_the_services_place(
    rule: dict[str, Any], status: int, code: str, office: Office, sandbox: Sandbox
) -> None:
    sandbox.add_fault(**rule)

    answer = office.send()

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert sandbox.messages() == []


@pytest.mark.parametrize(("given", "sent"), [(2, "2"), (2.128, "2.128"), ("Sun, 22 Nov 2026 10:00:00 GMT", None)])
def test_retry_after_is_sent_as_given(given: Any, sent: str | None, office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=429, retry_after=given)

    assert office.send().headers["Retry-After"] == (sent or given)


def test_headers_and_a_gateways_html_replace_graphs_own(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=502, body="<h1>Bad gateway</h1>", headers={"X-Gateway": "1"})

    answer = office.send()

    assert (answer.text, answer.headers["Content-Type"], answer.headers["X-Gateway"]) == (
        "<h1>Bad gateway</h1>",
        "text/html",
        "1",
    )


def test_an_empty_body_is_empty(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=500, body="")

    assert office.send().content == b""


def test_a_mail_may_be_accepted_behind_an_error(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=504, accepted=True)

    assert office.send().status_code == 504
    assert len(sandbox.messages()) == 1
    record = sandbox.requests(stage="graph")[0]
    assert (record.status, record.accepted) == (504, True)


def test_a_202_may_carry_retry_after(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="pass", retry_after=30)

    answer = office.send()

    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "30")
    assert len(sandbox.messages()) == 1


def test_a_mail_that_is_refused_is_refused_whatever_the_fault_would_hide(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="reset", accepted=True)

    assert office.send({"x": 1}).status_code == 400


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("effect", ["reset", "close"])
def test_a_broken_connection_brings_no_answer(effect: str, accepted: bool, office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect=effect, accepted=accepted, times=1)

    with pytest.raises(requests.ConnectionError):
        office.send()

    assert len(sandbox.messages()) == accepted
    record = sandbox.requests(stage="graph")[0]
    assert (record.status, record.accepted) == (None, accepted)
    assert office.send().status_code == 202


def test_a_reset_is_a_reset(address: SandboxAddress, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="reset")
    where = urlsplit(address.url)
    trust = ssl.create_default_context(cafile=address.ca_file)
    plain = socket.create_connection((where.hostname, where.port), timeout=10)
    secure = trust.wrap_socket(plain, server_hostname=where.hostname)
    secure.sendall(b"POST /v1.0/users/a@b.c/sendMail HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")

    # Below TLS, because Python's ssl reads the end of the stream where the socket says reset.
    with socket.socket(fileno=secure.detach()) as raw:
        raw.settimeout(10)
        with pytest.raises(ConnectionResetError):
            all(iter(partial(raw.recv, 65536), b""))


@pytest.mark.parametrize("accepted", [False, True])
def test_a_hanging_request_is_never_answered(accepted: bool, office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="hang", accepted=accepted)

    with pytest.raises(requests.ReadTimeout):
        office.send(timeout=0.2)

    assert len(sandbox.messages()) == accepted
    assert sandbox.requests(stage="graph")[0].status is None


def test_a_delayed_mail_is_accepted_though_the_client_has_left(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="pass", delay=0.3, times=1)

    with pytest.raises(requests.ReadTimeout):
        office.send(timeout=0.1)

    assert len(sandbox.wait_for_messages(1)) == 1


def test_a_dripping_answer_arrives_byte_by_byte_and_whole(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="pass", drip=0.0001)

    answer = office.send()

    assert (answer.status_code, answer.content) == (202, b"")
    assert "request-id" in answer.headers
    assert len(sandbox.messages()) == 1


def test_a_drip_defeats_a_read_timeout(address: SandboxAddress, office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=503, drip=0.001, body="x" * 200)

    answer = office.send(timeout=(5, 0.5))

    assert answer.content == b"x" * 200


def test_revoked_tokens_are_met_by_the_same_request(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="pass", revoke_tokens=True, times=1)

    assert office.send().status_code == 401
    office.log_in()
    assert office.send().status_code == 202


def test_a_fault_strikes_one_recipient_and_spares_the_others(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(recipient="@fabrikam.com", status=400, code="ErrorInvalidRecipients")

    assert office.send().status_code == 400
    elsewhere = [{"emailAddress": {"address": "bob@example.com"}}]
    assert office.send({"toRecipients": elsewhere}).status_code == 202


def test_the_token_endpoint_fails_as_configured(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="token", code="7000222")

    result = office.token_from()

    assert (result["error"], result["error_codes"]) == ("invalid_client", [7000222])


def test_a_token_endpoint_that_is_down_raises_in_msal(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="token", status=503)

    with pytest.raises(MsalServiceError, match="503"):
        office.token_from()


def test_discovery_fails_as_configured(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="discovery", effect="close")

    with pytest.raises(requests.ConnectionError):
        office.token_from()


def test_faults_are_listed_removed_and_cleared(office: Office, sandbox: Sandbox) -> None:
    first = sandbox.add_fault(status=500, times=1)
    sandbox.add_fault(status=503)
    office.send()

    assert [(one["status"], one["struck"]) for one in sandbox.faults()] == [(500, 1), (503, 0)]
    sandbox.remove_fault(first)
    assert [one["status"] for one in sandbox.faults()] == [503]
    sandbox.clear_faults()
    assert office.send().status_code == 202


def test_a_fault_that_makes_no_sense_is_refused_with_the_reason(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"no field 'efect' \(effect\?\)"):
        sandbox.add_fault(efect="hang")


def test_faults_can_be_in_force_from_the_start() -> None:
    with running(SandboxOptions(faults=({"status": 500},))) as address, Sandbox.at(address) as sandbox:
        sandbox.clear_faults()
        sandbox.reset()

        assert [one["status"] for one in sandbox.faults()] == [500]
