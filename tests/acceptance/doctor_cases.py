"""The ways in which a mail room can be set up wrongly, one at a time, and what the doctor must say of each."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from postroom.doctor.finding import Group, Level
from postroom.store import verdicts
from postroom.store.verdicts import Scope

from ..scripted_servers import Peer, Servers
from .certificates import self_signed
from .conftest import SENDER, Room

NOW = datetime.now(UTC)


@dataclass
class Scene:
    """A mail room that is in order, with a folder to start the doctor in, until a case spoils something."""

    room: Room
    folder: Path
    serve: Servers
    monkeypatch: pytest.MonkeyPatch
    end: contextlib.ExitStack
    settings: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, content: str, mode: int = 0o600) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    def config(self, **settings: str) -> None:
        """Changes settings of the Redis server until the case is over."""
        for name, value in settings.items():
            option = name.replace("_", "-")
            before = self.room.redis.config_get(option)[option]
            self.room.redis.config_set(option, value)
            self.end.callback(self.room.redis.config_set, option, before)


@dataclass(frozen=True)
class Case:
    """`words` stand in what was seen, `cause` in what it means, `cure` in what is next."""

    name: str
    spoil: Callable[[Scene], Any]
    group: Group
    level: Level
    words: str
    cause: str
    cure: str
    arguments: tuple[str, ...] = ()


def setting(**values: str) -> Callable[[Scene], None]:
    return lambda scene: scene.settings.update({f"POSTROOM_{name}": value for name, value in values.items()})


def no_token(code: str) -> Callable[[Scene], Any]:
    return lambda scene: scene.room.sandbox.add_fault(stage="token", code=code, status=401)


def certificate(days: int, *, registered: bool, whole: bool = True) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        public, both = self_signed(days)
        content = both if whole else both.removeprefix(public)
        scene.settings["POSTROOM_CLIENT_SECRET"] = ""
        scene.settings["POSTROOM_CLIENT_CERTIFICATE"] = scene.file("app.pem", content)
        scene.room.sandbox.set_certificates(*([public] if registered else []))

    return spoil


def proxy(answer: bytes) -> Callable[[Scene], None]:
    def refuse(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    def spoil(scene: Scene) -> None:
        scene.monkeypatch.setenv("HTTPS_PROXY", scene.serve(refuse, encrypted=False).url)

    return spoil


def clock_off(scene: Scene) -> None:
    late = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    scene.room.sandbox.add_fault(stage="discovery", effect="pass", headers={"Date": late})


def dotenv_for_all(scene: Scene) -> None:
    scene.file(".env", "POSTROOM_CLIENT_SECRET=sandbox-secret\n", mode=0o644)


def worked_before(scene: Scene) -> None:
    room = scene.room
    now = int(NOW.timestamp() * 1000)
    verdicts.allowed(room.redis, Scope.LANE, SENDER, now=now - 86_400_000)
    room.sandbox.set_roles()


def never_worked(scene: Scene) -> None:
    room = scene.room
    now = int(NOW.timestamp() * 1000)
    verdicts.refused(room.redis, Scope.LANE, SENDER, "access_denied", now=now - 4 * 3_600_000)
    room.sandbox.set_roles()


def without_right(scene: Scene) -> None:
    redis = scene.room.redis
    redis.execute_command("ACL", "SETUSER", "postroom", "-publish")
    scene.end.callback(redis.execute_command, "ACL", "SETUSER", "postroom", "+publish")


def nearly_full(scene: Scene) -> None:
    used = scene.room.redis.info("memory")["used_memory"]
    scene.config(maxmemory=str(int(used / 0.85)))


def other_keys(scene: Scene) -> None:
    scene.room.redis.set("cart:17", "x")
    scene.end.callback(scene.room.redis.delete, "cart:17")


def held_by_workers(scene: Scene) -> None:
    """As the workers do it: an app that gets no token is held."""
    redis = scene.room.redis
    now = str(int(NOW.timestamp() * 1000))
    redis.hset(
        "{postroom}:app:default", mapping={"held_since": now, "held_reason": "app_disabled", "held_for": "token"}
    )
    redis.zadd("{postroom}:faults", {"app:default": float(now)})
    scene.end.callback(redis.delete, "{postroom}:faults", "{postroom}:app:default")


def templates(**files: str) -> Callable[[Scene], None]:
    def spoil(scene: Scene) -> None:
        for name, content in files.items():
            scene.file(f"templates/hello/{name.replace('_', '.')}", content)
        scene.settings["POSTROOM_TEMPLATES"] = str(scene.folder / "templates")

    return spoil


def rules(content: str) -> Callable[[Scene], None]:
    return lambda scene: scene.settings.update(POSTROOM_EVENTS=scene.file("events.toml", content))


def smtp_certificate(scene: Scene) -> None:
    scene.settings["POSTROOM_SMTP_ALLOW"] = "127.0.0.1"
    scene.settings["POSTROOM_SMTP_CERTIFICATE"] = scene.file("smtp.pem", self_signed(30)[0])


def redis_url(change: Callable[[str], str]) -> Callable[[Scene], None]:
    return lambda scene: scene.settings.update(POSTROOM_REDIS_URL=change(scene.room.environment["POSTROOM_REDIS_URL"]))


S, R, W, O, E = Group.SETTINGS, Group.REDIS, Group.WORKERS, Group.WAY_OUT, Group.ENTRA  # noqa: E741
M, T, D = Group.MAILBOXES, Group.TEMPLATES, Group.DOORS
RED, YELLOW = Level.RED, Level.YELLOW
GUID = "22222222-2222-2222-2222-222222222222"
OTHER = "11111111-1111-1111-1111-111111111111"
RULE = '[rules.hello]\ntype = "com.example.hello"\ntemplate = "{}"\nto = "data.mail"\n'
ONLY_SETTINGS = ("--only", "settings")

CASES = [
    # the settings and their files
    Case("unknown setting", setting(CLIENT_SECRT="x"), S, RED, "(POSTROOM_CLIENT_SECRET?)", "no worker starts",
         "correct it"),
    Case("missing client", setting(CLIENT_ID=""), S, RED, "POSTROOM_CLIENT_ID is missing", "no worker starts",
         "set it"),
    Case("wrong value", setting(RATE="fast"), S, RED, "a rate is a count per time", "no worker starts", "correct it"),
    Case("mode 0644", dotenv_for_all, S, YELLOW, "0644", "can read the secret", "chmod 600"),
    Case("redirected", setting(REDIRECT_ALL_TO="me@contoso.com"), S, YELLOW, "all mail goes to", "send nobody else",
         "remove"),
    Case("no pace", setting(RATE="off"), S, YELLOW, "RATE is off", "30 mails a minute", "remove POSTROOM_RATE=off"),
    Case(
        "two clouds", setting(AUTHORITY_URL="https://login.microsoftonline.com",
         GRAPH_URL="https://graph.microsoft.us"),
        S, RED, "with https://graph.microsoft.us", "tokens of one cloud", "set POSTROOM_CLOUD", ONLY_SETTINGS,
    ),
    Case(
        "another Graph", setting(GRAPH_URL="https://graph.evil.example"), S, YELLOW, "no host of Microsoft's",
        "it gets every token", "remove POSTROOM_GRAPH_URL", ONLY_SETTINGS,
    ),
    # Redis
    Case("redis down", setting(REDIS_URL="redis://127.0.0.1:1"), R, RED, "Connection refused", "nothing is sent",
         "start Redis"),
    Case(
        "redis password", redis_url(lambda url: url.replace(":secret@", ":wrong@")), R, RED,
        "refused the name or password", "refuses this login", "POSTROOM_REDIS_URL",
    ),
    Case("redis right", without_right, R, RED, "PUBLISH", "do not start", "ACL SETUSER"),
    Case("redis evicts", lambda scene: scene.config(maxmemory_policy="allkeys-lru"), R, YELLOW, "allkeys-lru",
         "forgets mail",
         "set maxmemory-policy noeviction"),
    Case("redis not durable", lambda scene: scene.config(appendonly="no"), R, YELLOW, "appendonly no", "is lost",
         "set appendonly yes"),
    Case("redis nearly full", nearly_full, R, YELLOW, "used (8", "no new mail", "raise maxmemory"),
    Case("redis shared", other_keys, R, YELLOW, "cart", "FLUSHDB", "database of its own"),
    # workers
    Case("no workers", redis_url(lambda url: url + "?db=1"), W, RED, "none in the last 15 s", "nothing is sent",
         "postroom worker"),
    Case("other settings", setting(MAX_ATTEMPTS="7"), W, YELLOW, "here", "fare differently", "restart the workers"),
    Case("other templates", templates(subject_txt="Hi", body_txt="Ho", sample_json="{}"), W, YELLOW, "here",
         "fare differently", "restart the workers"),
    Case("held app", held_by_workers, W, RED, "app_disabled", "disabled the app", "ask the administrator"),
    # the way out
    Case("no DNS", setting(AUTHORITY_URL="https://login.invalid"), O, RED, "look-up failed",
         "no address for login.invalid",
         "getent hosts"),
    Case("TCP refused", setting(GRAPH_URL="https://127.0.0.1:1"), O, RED, "connect failed", "firewall", "127.0.0.1:1"),
    Case("unknown CA", setting(CA_BUNDLE=""), O, RED, "tls failed", "Postroom sandbox", "POSTROOM_CA_BUNDLE"),
    Case(
        "proxy wants a login",
        proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n"),
        O, RED, "407", "wants a login (Basic)", "http://USER:PASSWORD@",
    ),
    Case("proxy forbids", proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n"), O, RED, "403", "not Microsoft", "allow CONNECT"),
    Case("no proxy there", lambda scene: scene.monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1"), O, RED,
         "connect failed", "the proxy 127.0.0.1:1", "HTTPS_PROXY"),
    Case("clock", clock_off, O, RED, "behind the host's Date", "AADSTS700024", "synchronise"),
    # Entra
    Case("wrong secret", setting(CLIENT_SECRET="wrong"), E, RED, "AADSTS7000215", "the secret is wrong",
         "correct POSTROOM_CLIENT_SECRET"),
    Case("secret's id", setting(CLIENT_SECRET=GUID), E, RED, "looks like a secret's ID", "no token", "copy its Value"),
    Case("expired secret", lambda scene: scene.room.sandbox.set_secrets("new", expired=["sandbox-secret"]), E, RED,
         "AADSTS7000222", "has expired", "set a new secret"),
    Case("secret ends",
         setting(CLIENT_SECRET_EXPIRES=f"{NOW + timedelta(days=5):%Y-%m-%d}"), E, YELLOW, "client secret ends",
         "no mail of this app", "add a new one"),
    Case("certificate unknown", certificate(300, registered=False), E, RED, "AADSTS700027", "not registered",
         "register it"),
    Case("thumbprint", certificate(300, registered=False), E, YELLOW, "SHA-1", "does not list this thumbprint",
         "Certificates & secrets"),
    Case("certificate expired", certificate(-1, registered=True), E, RED, "the certificate expired", "no token",
         "new certificate"),
    Case("certificate ends", certificate(10, registered=True), E, YELLOW, "certificate ends on", "no mail of this app",
         "add a new one"),
    Case("key alone", certificate(300, registered=True, whole=False), E, RED, "no certificate in it", "no token",
         "PEM file"),
    Case("tenant typo", setting(TENANT_ID=OTHER), E, RED, "AADSTS90002", "no such tenant", "POSTROOM_TENANT_ID"),
    Case("no tenant", setting(TENANT_ID="contoso"), E, RED, "AADSTS900023", "no such tenant", "POSTROOM_TENANT_ID"),
    Case("client typo", setting(CLIENT_ID=OTHER), E, RED, "AADSTS700016", "no such app", "POSTROOM_CLIENT_ID"),
    Case("app disabled", no_token("7000112"), E, RED, "AADSTS7000112", "disabled the app", "administrator"),
    Case("conditional access", no_token("53003"), E, RED, "AADSTS53003", "Conditional Access", "administrator"),
    Case("wrong cloud", no_token("900382"), E, RED, "AADSTS900382", "another cloud", "POSTROOM_CLOUD"),
    Case("clock says Entra", no_token("700024"), E, RED, "AADSTS700024", "clock is wrong", "time synchronisation"),
    Case("Entra stumbles", no_token("90033"), E, YELLOW, "AADSTS90033", "temporary fault", "look again"),
    # mailboxes
    Case("no permission", lambda scene: scene.room.sandbox.set_roles(), M, YELLOW, "403 ErrorAccessDenied",
         "no Mail.Send in its token", "Test-ServicePrincipalAuthorization"),
    Case("outside the scope", lambda scene: (scene.room.sandbox.set_roles(),
         scene.room.sandbox.set_access(rbac_mailboxes=["other@contoso.com"])), M, YELLOW, "never worked",
         "up to 2 hours (RBAC)", "look again at"),
    Case("policy",
         lambda scene: scene.room.sandbox.set_access(policy_mailboxes=["other@contoso.com"]), M, YELLOW, "RAOP",
         "Application Access Policy", "Test-ApplicationAccessPolicy"),
    Case("worked before", worked_before, M, RED, "worked until", "somebody changed it",
         "Test-ServicePrincipalAuthorization"),
    Case("no delay any longer", never_worked, M, RED, "first refused 4 hours ago", "unless the right was given",
         "grant Mail.Send"),
    Case("no mailbox", lambda scene: scene.room.sandbox.set_mailboxes(["other@contoso.com"]), M, RED,
         "ErrorInvalidUser",
         "no such mailbox", f"correct the sender {SENDER}"),
    Case("no licence", lambda scene: scene.room.sandbox.set_mailboxes([], disabled=[SENDER]), M, RED,
         "MailboxNotEnabledForRESTAPI", "no licence", "give it a licence"),
    Case("throttled", lambda scene: scene.room.sandbox.add_fault(status=429, retry_after=30), M, YELLOW, "429",
         "throttled",
         "look again"),
    Case("drafts", setting(DELIVERY="draft"), M, RED, "needs_mail_readwrite", "lacks Mail.ReadWrite",
         "grant Mail.ReadWrite"),
    Case("outsider let in", lambda scene: None, M, RED, "was let in", "opens every mailbox",
         "remove the Mail.Send consent",
         ("--not-sender", "boss@contoso.com")),
    # templates and doors
    Case("template typo", templates(subject_txt="Hi", body_txt="{{ nam }}",
         sample_json='{"name": "Ann"}'), T, RED, "nam",
         "dead letter", "correct the file"),
    Case("no sample", templates(subject_txt="Hi", body_txt="Hi"), T, YELLOW, "no sample.json", "only its first mail",
         "sample.json"),
    Case("rule broken", rules("[rules.hello]\ntype = 1\n"), D, RED, "rules.hello", "does not start", "events check"),
    Case("rule's template", rules(RULE.format("nothing")), D, RED, "no template nothing", "dead letter",
         "add the template"),
    Case("smtp certificate", smtp_certificate, D, RED, "no certificate with its key", "does not start", "SMTP_KEY"),
]  # fmt: skip
