"""What an administrator's client bears from Graph, or from what pretends to be Graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
from requests.structures import CaseInsensitiveDict

from postroom.setup.directory import LONGEST_WAIT_S, MOST_PAGES, TRIES, Directory
from postroom.setup.errors import Refusal, SetupError, Unsure
from postroom.transport.http import Lost, NotSent, Response

ROOT = "https://graph.example"
Answers = Callable[[str], Response]


class Scripted:
    """HTTP that answers as a function says, and keeps which URLs were asked for."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Response:
        self.asked.append(url)
        return self._answers(url)


def answer(status: int, body: object, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, CaseInsensitiveDict(named), json.dumps(body).encode())


def directory(answers: Answers) -> tuple[Directory, Scripted, list[float]]:
    http, slept = Scripted(answers), list[float]()
    return Directory(ROOT, http, lambda: "token", slept.append), http, slept


def test_a_list_without_an_end_is_not_read_for_ever() -> None:
    page = {"value": [{"id": "1"}], "@odata.nextLink": f"{ROOT}/v1.0/next"}
    one, http, _ = directory(lambda _: answer(200, page))
    with pytest.raises(SetupError, match=f"more than {MOST_PAGES} pages"):
        one.read_all("/v1.0/rows")
    assert len(http.asked) == MOST_PAGES


def test_the_token_goes_to_no_other_host() -> None:
    one, http, _ = directory(lambda _: answer(200, {"value": [], "@odata.nextLink": "https://graph.example.evil/x"}))
    with pytest.raises(SetupError, match="another host"):
        one.read_all("/v1.0/rows")
    assert http.asked == [f"{ROOT}/v1.0/rows"]


def test_a_wait_that_graph_asks_for_is_bounded() -> None:
    one, http, slept = directory(lambda _: answer(429, {}, retry_after="86400"))
    with pytest.raises(SetupError, match="try again later"):
        one.read("/v1.0/x")
    assert (slept, len(http.asked)) == ([LONGEST_WAIT_S] * TRIES, TRIES)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_change_whose_answer_is_lost_is_not_asked_for_twice(method: str) -> None:
    def lose(_: str) -> Response:
        raise Lost("graph.example: reset")

    one, http, _ = directory(lose)
    with pytest.raises(Unsure):
        one.write(method, "/v1.0/x", {})
    assert len(http.asked) == 1


def test_what_was_not_sent_is_sent_again() -> None:
    def fail_once(_: str) -> Response:
        if len(http.asked) == 1:
            raise NotSent("graph.example: no route")
        return answer(200, {"id": "1"})

    one, http, slept = directory(fail_once)
    assert one.write("POST", "/v1.0/x", {}) == {"id": "1"}
    assert len(slept) == 1


def test_a_refusal_keeps_code_and_status_and_what_is_not_there_is_none() -> None:
    error = {"error": {"code": "Request_ResourceNotFound", "message": "no such thing"}}
    one, _, _ = directory(lambda _: answer(404, error))
    with pytest.raises(Refusal, match=r"GET /v1\.0/x: Graph answered 404 Request_ResourceNotFound: no such thing"):
        one.read("/v1.0/x?$select=id")
    assert one.find("/v1.0/x") is None


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"[" * 100_000])
def test_what_is_no_object_is_told(body: bytes) -> None:
    one, _, _ = directory(lambda _: Response(200, CaseInsensitiveDict(), body))
    with pytest.raises(SetupError, match="no JSON object; is this Graph"):
        one.read("/v1.0/x")
