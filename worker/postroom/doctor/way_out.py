"""The way to Entra and Graph: look-up, connection, proxy, TLS, and the clock against the host's Date header."""

from collections.abc import Iterator

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Reached, Surroundings, discovery_url, graph_probe_url
from postroom.settings.model import Cloud, Credential
from postroom.transport.way_out import Step, Way

_SAY = Reporter(Group.WAY_OUT)
# Entra lets an assertion's times be 5 minutes off: the token is refused above that (AADSTS700024).
CLOCK_WRONG_S, CLOCK_OFF_S = 300.0, 60.0
# Who issues the certificates of Microsoft's hosts: https://learn.microsoft.com/azure/security/fundamentals/azure-ca-details
_OF_MICROSOFT = ("Microsoft", "DigiCert", "Baltimore", "GlobalSign", "Entrust", "D-TRUST")


def check(around: Surroundings) -> Iterator[Finding]:
    """A look at each host that the apps need, once."""
    seen: set[str] = set()
    for name, app in around.apps.items():
        who = around.identity(name)
        places = [("Graph", who.graph_url, graph_probe_url(who.graph_url))]
        if app.kind is not Credential.MANAGED_IDENTITY:
            places.insert(0, ("Entra", who.authority_url, discovery_url(who)))
        for what, root, url in places:
            if f"{what} {root}" not in seen:
                seen.add(f"{what} {root}")
                yield from of_reached(what, root, around.reach(url))
    if not around.apps:
        yield _SAY.skipped("way out", "can Entra and Graph be reached?", "no app is set up completely (settings)")


def of_reached(what: str, root: str, reached: Reached) -> Iterator[Finding]:
    """What it means how far a request came."""
    way, name = reached.way, f"{what} {reached.way.host}"
    by = f" by the proxy {way.proxy}" if way.proxy else ""
    if way.step is not Step.DONE:
        yield of_way(name, way)
        return
    if reached.answer is None:
        yield _SAY.red(
            name, _asked(way), f"the connection stands{by}, and a request fails: {reached.fault}",
            "something on the way breaks the exchange off",
            "look at the firewall and the proxy for this host; then `postroom doctor --only way-out`",
        )  # fmt: skip
        return
    status = reached.answer.status
    if 300 <= status < 400:
        yield _SAY.red(
            name, _asked(way), f"a redirect ({status})", "a portal or a proxy answers, not Microsoft",
            "sign in at the portal, or exempt this host at the proxy",
        )  # fmt: skip
        return
    meaning = intercepted(root, way)
    yield _SAY.green(
        name, _asked(way), f"TLS stands{by}, certificate of {way.issuer or 'nobody named'}; status {status}",
        meaning, "if that is not meant: exempt the host from inspection" if meaning else "",
    )  # fmt: skip
    yield from of_clock(name, reached.ahead_s)


def intercepted(root: str, way: Way) -> str:
    """That somebody between us and Microsoft reads all that is sent, if the issuer shows it; else empty."""
    of_microsoft = {cloud.graph_url for cloud in Cloud} | {cloud.authority_url for cloud in Cloud}
    if root not in of_microsoft or way.issuer is None or any(one in way.issuer for one in _OF_MICROSOFT):
        return ""
    return f"{way.issuer} opens the connection and reads tokens and mail: a TLS inspection of your network"


def of_clock(name: str, ahead_s: float | None) -> Iterator[Finding]:
    """What the difference to the host's clock means."""
    asked = "is this machine's clock right?"
    if ahead_s is None:
        return
    if abs(ahead_s) < CLOCK_OFF_S:
        yield _SAY.green(name, asked, f"it differs by {abs(ahead_s):.0f} s from the host's Date")
        return
    seen = f"it is {abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} the host's Date"
    following = "synchronise it (timedatectl set-ntp true, chronyc tracking); in a VM or WSL also its host's"
    if abs(ahead_s) >= CLOCK_WRONG_S:
        yield _SAY.red(
            name, asked, seen, "Entra refuses assertions that are 5 minutes off (AADSTS700024); tokens seem expired",
            following,
        )  # fmt: skip
    else:
        yield _SAY.yellow(name, asked, seen, "from 5 minutes on, Entra refuses certificates (AADSTS700024)", following)


def of_way(name: str, way: Way) -> Finding:
    """What a step of the connection that failed means."""
    host = f"{way.host}:{way.port}"
    match way.step:
        case Step.PROXY_SETTING:
            cause, following = "HTTPS_PROXY cannot be read", "give it as http://HOST:PORT"
        case Step.LOOK_UP if way.proxy:
            cause = f"there is no address for the proxy {way.proxy}"
            following = "correct HTTPS_PROXY, or the DNS of this machine (getent hosts NAME)"
        case Step.LOOK_UP:
            cause = f"there is no address for {way.host}: a wrong name, or no DNS"
            following = f"getent hosts {way.host}; if names are resolved by a proxy only, set HTTPS_PROXY"
        case Step.CONNECT if way.proxy:
            cause, following = f"the proxy {way.proxy} takes no connection", "correct HTTPS_PROXY, or start the proxy"
        case Step.CONNECT:
            cause = f"nothing takes a connection at {host}: a firewall, or a network that needs a proxy"
            following = f"let this machine connect to {host}, or set HTTPS_PROXY; then `postroom doctor --only way-out`"
        case Step.PROXY:
            cause, following = _of_proxy(way)
        case _:
            cause, following = _of_tls(way)
    return _SAY.red(name, _asked(way), f"{way.step} failed: {way.fault}", cause, following)


def _of_proxy(way: Way) -> tuple[str, str]:
    if way.proxy_status == 407:
        wants = f" ({', '.join(way.proxy_wants)})" if way.proxy_wants else ""
        cause = f"it is the proxy {way.proxy} that refuses: it wants a login{wants}"
        if way.proxy_wants and "Basic" not in way.proxy_wants:
            return cause, "Postroom can log in with Basic only: let the proxy's admin exempt this machine"
        return (
            cause,
            "put the login into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT, with % signs for special characters",
        )
    if way.proxy_status is not None:
        cause = f"it is the proxy {way.proxy} that refuses ({way.proxy_status}), not Microsoft"
        return cause, f"let the proxy's admin allow CONNECT to {way.host}:{way.port}"
    return f"the proxy {way.proxy} broke off, or is no HTTP proxy", "correct HTTPS_PROXY"


def _of_tls(way: Way) -> tuple[str, str]:
    if way.issuer is None:
        return "the server does not speak TLS as expected, or the CA bundle cannot be used", (
            f"openssl s_client -connect {way.host}:{way.port}; POSTROOM_CA_BUNDLE must name a file of PEM certificates"
        )
    if "match" in way.fault or "valid for" in way.fault:
        return f"the certificate of {way.issuer} is for another name than {way.host}", "correct the URL or the DNS"
    cause = f"the certificate is of {way.issuer}, which is not in {way.bundle}: a TLS inspection, or a CA of your own"
    cure = f"if {way.issuer} is meant: put its certificate and the public ones into a PEM file for POSTROOM_CA_BUNDLE"
    return cause, cure


def _asked(way: Way) -> str:
    return f"can this machine reach {way.host}:{way.port}?"
