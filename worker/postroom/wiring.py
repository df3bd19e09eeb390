"""From settings to the objects of a worker: the one place that puts them together."""

import os
import random
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.consumers import Context as ConsumerContext
from postroom.delivery.context import App, DeliveryContext
from postroom.delivery.round import RoundContext
from postroom.errors import ConfigError
from postroom.graph.client import Graph
from postroom.graph.credentials import (
    EXPIRES_SOON,
    Certificate,
    FederatedIdentity,
    FederatedToken,
    Identity,
    ManagedIdentity,
    Secret,
    SignedInUser,
    StoredSecret,
    check_credential,
    ends_at,
)
from postroom.graph.credentials import Credential as AppCredential
from postroom.graph.key_vault import SCHEME, VaultItem
from postroom.graph.seal import Seal
from postroom.graph.sign_in import SignIns
from postroom.graph.tokens import Token, Tokens
from postroom.jobs.job import Job, milliseconds
from postroom.jobs.workers import WorkerFacts
from postroom.render import Renderer, Templates
from postroom.runtime.batching_redis import BatchingRedis
from postroom.runtime.fibers import current_loop, invite, run_in_thread, sleep
from postroom.settings import fingerprint
from postroom.settings.lanes import Lanes, policy
from postroom.settings.model import PREFIX, AppSettings, Credential, Settings, Transport
from postroom.setup.directory import Directory
from postroom.setup.errors import SetupError
from postroom.setup.renewing import renewal
from postroom.setup.rotation import OwnKeeper, Rotated, Rotation
from postroom.store import functions
from postroom.store.celery_urls import CeleryUrls, celery_urls, result_backend
from postroom.store.connection import connect
from postroom.store.journal import CallbackStream, Journal
from postroom.store.ledger import Ledger
from postroom.store.sign_ins import SignInText
from postroom.telemetry import logs
from postroom.telemetry.events import Emit
from postroom.transport.http import Http
from postroom.transport.requests_http import RequestsHttp

if TYPE_CHECKING:
    import redis

    from postroom.transport.curl_http import CurlHttp

WORKER_TIMEOUT_S = 5.0
LONGEST_TOKEN_S = 15.0


def worker_redis(settings: Settings) -> "redis.Redis":
    """The worker's Redis: it is patient, but never without a bound."""
    return connect(settings.redis_url, timeout_s=WORKER_TIMEOUT_S, name="postroom-worker", max_connections=1_000)


def worker_name() -> str:
    return f"{os.uname().nodename}:{os.getpid()}"


def ledger(settings: Settings, worker: str) -> Ledger:
    """The worker's ledger, which records with each attempt whose it is."""
    signature = {"worker": worker}
    if settings.redirect_all_to:
        signature["redirected_to"] = settings.redirect_all_to.address
    return Ledger(BatchingRedis(worker_redis(settings), functions.in_one), settings.attachments, signature)


def worker_facts(settings: Settings) -> WorkerFacts:
    """What this worker goes by, and others should too."""
    folder = settings.templates
    return WorkerFacts(
        version=version("postroom"),
        settings=fingerprint.of_settings(settings),
        templates=fingerprint.of_folder(folder),
        names=tuple(Templates(folder).names()) if folder.is_dir() else (),
        redirect_all_to=settings.redirect_all_to.address if settings.redirect_all_to else None,
        expiring={name: milliseconds(end.timestamp()) for name, end in expiring(settings, datetime.now(UTC)).items()},
    )


def consumer_context(settings: Settings, emit: Emit) -> ConsumerContext:
    """What consumers of the journal work with. Each waits on a connection of its own."""
    redis = connect(settings.redis_url, timeout_s=WORKER_TIMEOUT_S, name="postroom-journal")
    reader = worker_name()
    return ConsumerContext(Journal(redis, reader), CallbackStream(redis, reader), settings, emit)


def transport(settings: Settings) -> "type[CurlHttp | RequestsHttp]":
    """What makes the HTTP exchanges: what is set, or else curl where it is installed. ConfigError if it is not."""
    if settings.transport is not Transport.REQUESTS:
        try:
            from postroom.transport.curl_http import CurlHttp  # noqa: PLC0415 - an extra
        except ImportError as error:
            if settings.transport:
                raise ConfigError([f"{PREFIX}TRANSPORT: {error}; pip install 'postroom[curl]'"]) from None
        else:
            return CurlHttp
    return RequestsHttp


def round_context(settings: Settings, book: Ledger, stopping: Callable[[], bool]) -> RoundContext:
    """All that rounds work with."""
    lanes = Lanes(settings=settings)
    chance = random.Random(os.urandom(32))  # noqa: S311 - seeded as well as uuid4, which asks the system each time
    redis = worker_redis(settings)
    http = transport(settings)(str(settings.ca_bundle) if settings.ca_bundle else None)

    def mark(job: Job, client_request_id: str, size: int) -> float | None:
        return book.mark(job, client_request_id, size, settings.lease)

    def note(job: Job, fields: Mapping[str, str], size: int) -> float | None:
        return book.note(job, fields, size, settings.lease)

    context = DeliveryContext(
        apps={
            name: App(
                tokens=Tokens(
                    identity(app, settings.ca_bundle, sign_ins(settings, name, redis)),
                    http,
                    deadline_s=min(settings.lease / 4, LONGEST_TOKEN_S),
                ),
                graph=Graph(app.graph_url or app.cloud.graph_url, http),
                seal=seal(app),
            )
            for name, app in apps(settings).items()
        },
        templates=Renderer(settings.templates),
        mailbox_of=lanes.mailbox,
        addresses_of=lanes.addresses,
        delivery_of=lanes.delivery,
        on_unknown=lanes.on_unknown,
        mark=mark,
        note=note,
        stopping=stopping,
        redirect_all_to=settings.redirect_all_to,
        has_template_elsewhere=book.records.has_template,
        lease_s=settings.lease,
        monotonic=_clock,
        new_id=lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        attachments=book.attachments,
        run_in_thread=run_in_thread,
        chance=chance.random,
    )
    return RoundContext(
        ledger=book,
        delivery=context,
        policy=policy(settings),
        chance=chance.random,
        emit=logs.start(settings.log_format, current_loop),
        stopping=stopping,
        invite=invite,
        pause=sleep,
    )


def _clock() -> float:
    """Seconds that never go back; those too in which the machine sleeps, for leases end meanwhile."""
    return time.clock_gettime(_AWAKE_OR_ASLEEP) if _AWAKE_OR_ASLEEP is not None else time.monotonic()


_AWAKE_OR_ASLEEP: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def seal(app: AppSettings) -> Seal | None:
    """A seal from what this app keeps secret; an identity without a secret of its own has none."""
    match app.kind:
        case Credential.SECRET if isinstance(secret := _secret(app, None), Secret):
            return Seal(secret.value.encode())
        case Credential.SECRET if app.client_secret_file and app.client_secret_file.is_file():
            return Seal(app.client_secret_file.read_bytes())
        case Credential.CERTIFICATE if isinstance(app.client_certificate, Path) and app.client_certificate.is_file():
            return Seal(app.client_certificate.read_bytes())
        case _:
            return None


def sign_ins(settings: Settings, name: str, redis: "redis.Redis") -> SignIns | None:
    """Where the sign-in for this app is kept; None if no person signs in for it."""
    app, key = apps(settings)[name], settings.sign_in_key
    if app.kind is not Credential.USER or key is None:
        return None
    return SignIns(SignInText(redis, name), key.get_secret_value())


def identity(app: AppSettings, ca_bundle: Path | None = None, kept: SignIns | None = None) -> Identity:
    """Who this app is for Entra. Its settings must be complete (`App.faults`).

    `ca_bundle` has the certificates by which a vault is known; `kept` is where a person's sign-in is.
    """
    credential: AppCredential
    match app.kind:
        case Credential.CERTIFICATE if app.client_certificate:
            password = app.client_certificate_password
            credential = Certificate(
                app.client_certificate, password.get_secret_value() if password else None, ca_bundle
            )
        case Credential.FEDERATED if app.federated_token_file:
            credential = FederatedToken(app.federated_token_file)
        case Credential.MANAGED_IDENTITY:
            credential = ManagedIdentity(app.client_id)
        case Credential.USER:
            credential = SignedInUser(kept)
        case Credential.FEDERATED_IDENTITY:
            credential = FederatedIdentity(app.managed_identity_client_id)
        case _:
            credential = _secret(app, ca_bundle)
    return Identity(
        tenant_id=app.tenant_id or "",
        client_id=app.client_id or "",
        authority_url=app.authority_url or app.cloud.authority_url,
        graph_url=app.graph_url or app.cloud.graph_url,
        credential=credential,
    )


def _secret(app: AppSettings, ca_bundle: Path | None) -> Secret | StoredSecret:
    value, expires = app.client_secret.get_secret_value() if app.client_secret else "", _end_of(app)
    if value.startswith(SCHEME):
        return StoredSecret(VaultItem.parse(value), expires, ca_bundle)
    if not value and app.client_secret_file:
        return StoredSecret(app.client_secret_file, expires)
    return Secret(value, expires)


def _end_of(app: AppSettings) -> datetime | None:
    day = app.client_secret_expires
    return datetime.combine(day, time_of_day(), UTC) if day else None


def expiring(settings: Settings, now: datetime) -> dict[str, datetime]:
    """When the credentials end that do so within a month, by the names of their apps; broken ones are left out."""
    unusable = unusable_apps(settings, now)
    ends = {name: ends_at(identity(app)) for name, app in apps(settings).items() if name not in unusable}
    return {name: end for name, end in ends.items() if end is not None and end - now < EXPIRES_SOON}


def renewals(settings: Settings) -> dict[str, Callable[[], Rotated]]:
    """What replaces the certificates of the apps whose settings ask for that, by the apps' names."""
    http = transport(settings)(str(settings.ca_bundle) if settings.ca_bundle else None)
    return {
        name: renewal(_rotation(identity(app), app.client_certificate, http), timedelta(seconds=app.rotate))
        for name, app in apps(settings).items()
        if app.rotate and isinstance(app.client_certificate, Path)
    }


def _rotation(who: Identity, path: Path, http: Http) -> Rotation:
    tokens = Tokens(who, http, deadline_s=LONGEST_TOKEN_S)

    def token() -> str:
        found = tokens.get()
        if not isinstance(found, Token):
            raise SetupError(f"Entra gives no token for the certificate that is used: {found.answer.detail or found}")
        return found.value

    return Rotation(who, http, OwnKeeper(Directory(who.graph_url, http, token)), path)


def celery_place(settings: Settings) -> tuple[CeleryUrls, str]:
    """Where Celery's queue is, and the URL of its result backend."""
    urls = celery_urls(settings.redis_url)
    return urls, result_backend(settings.result_backend, urls)


def worker_faults(settings: Settings, now: datetime) -> list[str]:
    """Why a worker cannot send with these settings and the files they name: what `check` and a worker's start go by.

    An app whose credential cannot be used is such a fault only if no other app can be used: their mail goes on, and
    its own is held.
    """
    unusable = unusable_apps(settings, now)
    faults = settings.worker_faults() + result_backend_faults(settings)
    if len(unusable) == len(apps(settings)):
        faults += chain.from_iterable(unusable.values())
    return faults


def apps(settings: Settings) -> dict[str, AppSettings]:
    """The apps whose settings are complete."""
    return {name: app for name, app in settings.all_apps.items() if app.kind is not None and not list(app.faults("{}"))}


def unusable_apps(settings: Settings, now: datetime) -> dict[str, list[str]]:
    """What is wrong with the credentials of apps, by the apps' names; those that can be used are left out."""
    faults = {name: check_credential(identity(app), now) for name, app in apps(settings).items()}
    return {name: [f"app {name}: {fault}" for fault in found] for name, found in faults.items() if found}


def result_backend_faults(settings: Settings) -> list[str]:
    """Why results cannot be stored where POSTROOM_RESULT_BACKEND says: no such backend, or its library is missing."""
    urls, place = celery_place(settings)
    if place == urls.backend:
        return []
    from celery import Celery  # noqa: PLC0415 - only who has another backend loads it here

    if place.startswith("rpc:"):
        why = "rpc:// keeps a result with whoever sent the task, and a mail ends after its task"
    else:
        try:
            with Celery(backend=place) as app:
                _ = app.backend
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own
            why = str(error) or type(error).__name__
        else:
            return []
    return [f"{PREFIX}RESULT_BACKEND: {why}"]
