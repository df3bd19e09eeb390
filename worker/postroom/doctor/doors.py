"""The doors: rules for events, logins and certificate of the SMTP door, and keys of the HTTP API."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from postroom.access.api_keys import ApiKey, ApiKeys
from postroom.doctor.certificate import of_end
from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, Unreachable, listed
from postroom.errors import ConfigError, PostroomError
from postroom.render import Templates
from postroom.settings.model import PREFIX

_SAY = Reporter(Group.DOORS)
_RULES = "can the rules for events be used?"
_TLS = "is the certificate of the SMTP door in order?"
_KEYS = "are there keys for the HTTP API?"


def check(around: Surroundings) -> Iterator[Finding]:
    """Each door that is set up."""
    given = around.settings
    if given.events:
        names = Templates(given.templates).names() if given.templates.is_dir() else []
        yield from of_rules(given.events, names)
    else:
        yield _SAY.skipped("events", _RULES, f"{PREFIX}EVENTS is not set")
    if given.smtp_certificate and given.smtp_certificate.is_file():
        yield from _of_smtp_certificate(given.smtp_certificate, given.smtp_key, around.clock())
    elif given.smtp or given.smtp_allow:
        yield _SAY.green("smtp", _TLS, f"{len(given.smtp)} login(s), without TLS")
    else:
        yield _SAY.skipped("smtp", _TLS, "the SMTP door is not set up")
    yield from _of_keys(around)


def of_rules(file: Path, templates: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with the file of rules, and with the templates that they name."""
    try:
        from postroom.cloudevents.rules import EventRules  # noqa: PLC0415 - an extra
    except ImportError as error:
        yield _SAY.skipped("events", _RULES, f"needs {error.name}: pip install 'postroom[api]'")
        return
    following = f"correct {file}; then `postroom events check SAMPLES` shows what each sample event would send"
    refuses = "the HTTP API does not start with these rules"
    try:
        rules = EventRules.parse(file.read_text(encoding="utf-8"), str(file)).rules
    except OSError as error:
        yield _SAY.red("events", _RULES, f"{file}: {error.strerror}", refuses, following)
        return
    except (ConfigError, UnicodeError) as error:
        yield _SAY.red("events", _RULES, " / ".join(str(error).splitlines()[:5]), refuses, following)
        return
    missing = {name: rule.template for name, rule in rules.items() if rule.template not in templates}
    for name, template in missing.items():
        yield _SAY.red(
            f"events rule {name}", _RULES, f"there is no template {template}",
            "mail of this rule becomes a dead letter (template)", f"add the template, or correct the rule in {file}",
        )  # fmt: skip
    if not missing:
        yield _SAY.green("events", _RULES, f"{len(rules)} rule(s): {listed(rules)}")


def _of_smtp_certificate(file: Path, key: Path | None, now: datetime) -> Iterator[Finding]:
    try:
        from postroom.smtp.server import tls_context  # noqa: PLC0415 - an extra

        tls_context(file, key)
    except ImportError as error:
        yield _SAY.skipped("smtp", _TLS, f"needs {error.name}: pip install 'postroom[smtp]'")
        return
    except ConfigError as error:
        yield _SAY.red(
            "smtp", _TLS, str(error), "the SMTP door does not start",
            f"set {PREFIX}SMTP_CERTIFICATE and {PREFIX}SMTP_KEY to PEM files that belong together",
        )  # fmt: skip
        return
    certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
    found = of_end("smtp", certificate.not_valid_after_utc.astimezone(UTC), now, is_secret=False)
    yield Finding(
        group=Group.DOORS, name="smtp", level=found.level, asked=_TLS, seen=found.seen,
        meaning="clients that verify it refuse the door then" if found.meaning else "",
        next="renew it, and restart `postroom smtp`" if found.next else "",
    )  # fmt: skip


def _of_keys(around: Surroundings) -> Iterator[Finding]:
    redis = around.redis
    if isinstance(redis, Unreachable):
        yield _SAY.skipped("api keys", _KEYS, "Redis does not answer (redis)")
        return
    try:
        keys = ApiKeys(redis).list()
    except PostroomError as error:
        yield _SAY.skipped("api keys", _KEYS, f"Redis does not say ({error})")
        return
    yield of_keys(keys)


def of_keys(keys: Sequence[ApiKey]) -> Finding:
    """Which keys there are, and which of them nobody has used."""
    if not keys:
        return _SAY.skipped("api keys", _KEYS, "none; `postroom keys create` makes one")
    unused = [key.name for key in keys if key.used_on is None]
    told = f"{len(keys)}: {listed(key.name for key in keys)}"
    return _SAY.green("api keys", _KEYS, told + (f"; never used: {listed(unused)}" if unused else ""))
