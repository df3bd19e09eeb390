"""What each step of a connection that fails means."""

import pytest

from postroom.doctor.finding import Level
from postroom.doctor.surroundings import Reached, seconds_ahead
from postroom.doctor.way_out import intercepted, of_clock, of_reached, of_way
from postroom.transport.http import Response
from postroom.transport.way_out import Step, Way

from .test_propagation import NOW

ROOT = "https://graph.microsoft.com"


def way(step: Step = Step.DONE, **fields: object) -> Way:
    return Way(host="graph.microsoft.com", port=443, step=step, fault="words", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "cause", "cure"),
    [
        (way(Step.PROXY_SETTING), "HTTPS_PROXY cannot be read", "http://HOST:PORT"),
        (way(Step.LOOK_UP), "no address for graph.microsoft.com", "getent hosts"),
        (way(Step.LOOK_UP, proxy="proxy:8080"), "no address for the proxy proxy:8080", "HTTPS_PROXY"),
        (way(Step.CONNECT), "firewall", "let this machine connect to graph.microsoft.com:443"),
        (way(Step.CONNECT, proxy="proxy:8080"), "the proxy proxy:8080 takes no connection", "HTTPS_PROXY"),
        (
            way(Step.PROXY, proxy="proxy:8080", proxy_status=407, proxy_wants=("Basic",)),
            "wants a login (Basic)",
            "USER:PASSWORD",
        ),
        (way(Step.PROXY, proxy="proxy:8080", proxy_status=407, proxy_wants=("Negotiate",)), "(Negotiate)", "exempt"),
        (
            way(Step.PROXY, proxy="proxy:8080", proxy_status=403),
            "the proxy proxy:8080 that refuses (403)",
            "allow CONNECT",
        ),
        (way(Step.PROXY, proxy="proxy:8080"), "no HTTP proxy", "HTTPS_PROXY"),
        (
            way(Step.TLS, issuer="Zscaler Root CA", bundle="/ca.pem"),
            "Zscaler Root CA, which is not in /ca.pem",
            "POSTROOM_CA_BUNDLE",
        ),
        (way(Step.TLS), "does not speak TLS", "openssl s_client"),
    ],
)
def test_a_failed_step_names_cause_and_cure(of: Way, cause: str, cure: str) -> None:
    found = of_way("Graph", of)

    assert (found.level, cause in found.meaning, cure in found.next) == (Level.RED, True, True)


def test_a_certificate_for_another_name_is_no_inspection() -> None:
    wrong = Way(
        host="h", port=443, step=Step.TLS, fault="Hostname mismatch, certificate is not valid for 'h'", issuer="CA"
    )
    assert "for another name than h" in of_way("Graph", wrong).meaning


@pytest.mark.parametrize(
    ("root", "issuer", "told"),
    [
        (ROOT, "Microsoft Azure RSA TLS Issuing CA 04 of Microsoft Corporation", False),
        (ROOT, "DigiCert Cloud Services CA-1 of DigiCert Inc", False),
        (ROOT, "Contoso TLS Inspection", True),
        ("https://127.0.0.1:8443", "Postroom sandbox", False),
    ],
)
def test_a_trusted_inspection_is_named(root: str, issuer: str, *, told: bool) -> None:
    assert (issuer in intercepted(root, way(issuer=issuer))) is told


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [(0, "green"), (59, "green"), (-59, "green"), (61, "yellow"), (-299, "yellow"), (301, "red"), (-301, "red")],
)
def test_a_clock_that_is_off_is_told_in_time(ahead_s: float, level: str) -> None:
    (found,) = of_clock("Entra", ahead_s)
    assert found.level == level


def test_a_host_without_a_date_says_nothing_of_the_clock() -> None:
    assert list(of_clock("Entra", None)) == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Date": "Tue, 01 Dec 2026 13:10:00 GMT"}, 600),
        ({"date": "Tue, 01 Dec 2026 12:59:00 GMT"}, -60),
        ({"date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_the_date_header_is_read(headers: dict[str, str], expected: float | None) -> None:
    assert seconds_ahead(headers, NOW) == expected


def test_a_portal_s_redirect_is_no_answer_of_microsoft() -> None:
    (found,) = of_reached("Graph", ROOT, Reached(way(), Response(302, {}, b"")))
    assert (found.level, "a portal or a proxy" in found.meaning) == (Level.RED, True)


def test_an_exchange_that_breaks_off_after_tls_is_named() -> None:
    (found,) = of_reached("Graph", ROOT, Reached(way(), None, "graph.microsoft.com: reset"))
    assert (found.level, "reset" in found.seen) == (Level.RED, True)
