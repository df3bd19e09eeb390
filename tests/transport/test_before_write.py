"""The last check runs directly before the first byte, and can stop the request."""

import threading

import pytest

from postroom.transport.http import Http, NotSent

from ..scripted_servers import OK, Servers, answering
from .transports import post


def test_the_last_check_runs_after_the_connection_stands_and_before_the_first_byte(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK))
    seen = []
    for _ in range(2):
        post(
            http,
            server.url,
            before_write=lambda: seen.append((server.connections, len(server.requests))),
        )
    assert seen == [(1, 0), (1, 1)]


def test_a_last_check_that_takes_all_the_time_is_not_sent(serve: Servers, http: Http) -> None:
    server = serve(answering(OK, OK))
    post(http, server.url)
    with pytest.raises(NotSent, match="deadline"):
        post(http, server.url, deadline_s=0.1, before_write=lambda: threading.Event().wait(0.2) and None)
    server.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", [TimeoutError, LookupError, KeyboardInterrupt, SystemExit, ConnectionResetError])
@pytest.mark.parametrize("encrypted", [True, False])
def test_what_the_last_check_raises_comes_out_unchanged_and_nothing_is_written(
    serve: Servers, http: Http, kind: type[BaseException], encrypted: bool
) -> None:
    server = serve(answering(OK), encrypted=encrypted)
    veto = kind("the lease is over")

    def check() -> None:
        raise veto

    with pytest.raises(kind) as raised:
        post(http, server.url, before_write=check)
    assert raised.value is veto
    server.close()
    assert server.requests == []
