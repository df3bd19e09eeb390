"""The settings: every fault at once, where each value came from, and what is in force that may surprise."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, listed
from postroom.errors import ConfigError
from postroom.settings.model import PREFIX, Cloud, Settings
from postroom.settings.origins import config_file, origins
from postroom.wiring import apps, result_backend_faults, transport

_SAY = Reporter(Group.SETTINGS)
_ASKED = "are they complete and right?"
_THEN = "then `postroom doctor --only settings`; docs/settings.md has each setting"


def of_faults(faults: Iterable[str], places: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each fault that the settings have."""
    for fault in faults:
        name = fault.split(" ")[0].rstrip(":")
        place = next((where for setting, where in places.items() if setting == name), None)
        seen = f"{fault} (from {place})" if place else fault
        do = "set it (environment, .env or postroom.toml)" if " is missing" in fault else "correct it"
        yield _SAY.red(name, _ASKED, seen, "no worker starts with these settings", f"{do}, {_THEN}")


def check(around: Surroundings) -> Iterator[Finding]:
    """The settings could be read: what they lack for a worker, their origin, and what surprises."""
    given, places = around.settings, origins(around.environ, around.folder)
    faults = given.worker_faults() + result_backend_faults(given)
    if given.smtp or given.smtp_allow:
        faults += given.smtp_faults(over_tls=False)
    try:
        name = transport(given).name
    except ConfigError as error:
        faults += [fault for fault in error.faults if fault not in faults]
        name = ""
    yield from of_faults(faults, places)
    if not faults:
        used = f"{len(apps(given))} app(s), {len(given.senders)} sender(s) of the file, HTTP by {name}"
        yield _SAY.green(
            "settings", _ASKED, f"{used}; {told_origins(places, config_file(around.environ, around.folder))}"
        )
    yield from surprises(given)


def told_origins(places: Mapping[str, str], file: Path | None) -> str:
    """From where how many settings came, with the names of those that a person may look for in the wrong place."""
    by_place: dict[str, list[str]] = {}
    for setting, place in sorted(places.items()):
        by_place.setdefault(place.partition(" (")[0], []).append(setting.removeprefix(PREFIX))
    told = [f"{listed(names, 20)} from the {place}" for place, names in by_place.items()]
    return "; ".join([*told, *([f"tables from {file}"] if file else [])]) or "nothing is set"


def surprises(given: Settings) -> Iterator[Finding]:
    """What is in force, is no fault, and is seldom meant in production."""
    if given.redirect_all_to:
        yield _SAY.yellow(
            f"{PREFIX}REDIRECT_ALL_TO",
            "does mail reach its recipients?",
            f"all mail goes to {given.redirect_all_to.address}",
            "workers with this setting send nobody else anything",
            f"if this is production: remove {PREFIX}REDIRECT_ALL_TO and restart the workers",
        )
    if not given.rate:
        yield _SAY.yellow(
            f"{PREFIX}RATE",
            "is the pace of a mailbox bounded?",
            "RATE is off",
            "Exchange delays what is above 30 mails a minute from a mailbox, and bounces above 10,000 recipients a day",
            f"remove {PREFIX}RATE=off, unless another system keeps the pace",
        )
    for name, app in apps(given).items():
        yield from _places(name, app.graph_url or app.cloud.graph_url, app.authority_url or app.cloud.authority_url)


def _places(name: str, graph: str, authority: str) -> Iterator[Finding]:
    asked, title = "is it Microsoft's Graph?", f"app {name}"
    clouds = {cloud.graph_url: cloud for cloud in Cloud}
    if graph not in clouds:
        if is_local(graph):
            yield _SAY.green(
                title, asked, f"Graph is {graph}, on this machine or network",
                "a stand-in: nobody outside gets mail from it",
                f"for real mail, remove {PREFIX}GRAPH_URL and {PREFIX}AUTHORITY_URL",
            )  # fmt: skip
        else:
            yield _SAY.yellow(
                title, asked, f"Graph is {graph}, which is no host of Microsoft's",
                "it gets every token and every mail of this app",
                f"remove {PREFIX}GRAPH_URL, unless this host is yours and meant",
            )  # fmt: skip
    elif authority in {cloud.authority_url for cloud in Cloud} and clouds[graph].authority_url != authority:
        yield _SAY.red(
            title, "do Entra and Graph belong to the same cloud?", f"{authority} with {graph}",
            "tokens of one cloud are not valid in another: Entra answers AADSTS900382, AADSTS90002 or AADSTS500011",
            f"set {PREFIX}CLOUD, and remove {PREFIX}GRAPH_URL and {PREFIX}AUTHORITY_URL",
        )  # fmt: skip


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine or a private network, as far as its host shows."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host
