"""From each door to the inbox and back: what a producer and an operator see."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from postroom import MailDead, Status

from .conftest import SENDER, Room, a_mail, until

OpenRoom = Callable[..., Room]


def test_each_producer_s_mail_arrives_and_its_result_tells_how(room: Room) -> None:
    room.start_worker_process()
    producer = room.celery()

    by_client = room.client().send(a_mail(to=["client@contoso.com"]), key="one").id
    by_celery = producer.send_task(
        "postroom.send", args=[{"from": SENDER, "to": ["celery@contoso.com"], "text": "Hi"}], queue="postroom"
    ).id
    by_command = room.postroom(
        "send", "--to", "cli@contoso.com", "--template", "welcome", "--var", "name=Ann", "--wait"
    )

    assert by_command.returncode == 0, by_command.stderr
    for job_id in (by_client, by_celery):
        delivery = room.settled(job_id)
        result = AsyncResult(job_id, app=producer).get(timeout=20)
        assert (delivery.status, delivery.http_status) == (Status.ACCEPTED, 202)
        assert result == {
            "id": job_id,
            "status": "accepted",
            "http_status": 202,
            "request_id": delivery.request_id,
            "client_request_id": delivery.attempts[-1].client_request_id,
            "attempts": 1,
            "accepted_at": result["accepted_at"],
            "sender": SENDER,
        }
        assert datetime.fromisoformat(result["accepted_at"]) == delivery.ended_at
    arrived = room.sandbox.wait_for_messages(3)
    assert sorted(address for mail in arrived for address in mail.to) == [
        "celery@contoso.com",
        "cli@contoso.com",
        "client@contoso.com",
    ]


def test_a_task_that_is_no_mail_ends_as_a_dead_letter_that_says_why(room: Room) -> None:
    room.start_worker_process()
    producer, mail = room.celery(), {"from": SENDER, "to": ["ann@contoso.com"], "text": "Hi"}
    calls: dict[str, tuple[object, object]] = {
        "to.0: not an address": (mail | {"to": ["nobody"]}, None),
        "a mail is an object with fields, not str": ("nonsense", None),
        "key: a string": (mail, 7),
        "key: api/… are the keys of mail that came in otherwise": (mail, "api/0a1b2c3d4e5f/order-4711"),
        "key: event/… are the keys of mail that came in otherwise": (mail, "event/ready/0123456789abcdef"),
        "text: half a surrogate pair": (mail | {"text": "half an emoji \ud83d"}, None),
        "unable to parse raw data as a unicode string": (mail | {"\ud83d": 1}, None),
    }

    jobs = {
        why: producer.send_task("postroom.send", args=[values], kwargs={"key": key}, queue="postroom").id
        for why, (values, key) in calls.items()
    }

    jobs["and got 1 arguments more"] = producer.send_task(
        "postroom.send", args=[mail], kwargs={"kye": "k"}, queue="postroom"
    ).id
    jobs["not NoneType"] = producer.send_task("postroom.send", queue="postroom").id

    for why, job_id in jobs.items():
        with pytest.raises(MailDead, match="invalid"):
            AsyncResult(job_id, app=producer).get(timeout=20)
        assert why in (room.client().status(job_id).attempts[0].detail or "")


def test_a_key_known_already_shows_the_first_job_s_result_under_the_second_id_too(room: Room) -> None:
    room.start_worker_process()
    producer, mail = room.celery(), {"from": SENDER, "to": ["ann@contoso.com"], "text": "Hi"}

    first = producer.send_task("postroom.send", args=[mail], kwargs={"key": "k"}, queue="postroom")
    first_result = AsyncResult(first.id, app=producer).get(timeout=20)
    second = producer.send_task("postroom.send", args=[mail], kwargs={"key": "k"}, queue="postroom")

    assert AsyncResult(second.id, app=producer).get(timeout=20) == first_result
    assert len(room.sandbox.messages()) == 1


def test_a_refused_mail_is_dead_with_its_graph_code_and_the_rest_flow_on(room: Room) -> None:
    room.sandbox.add_fault(recipient="bad@contoso.com", status=400, code="ErrorInvalidRecipients")
    room.start_worker_process()

    bad = room.client().send(a_mail(to=["bad@contoso.com"])).id
    good = room.client().send(a_mail()).id

    assert room.settled(good).status is Status.ACCEPTED
    delivery = room.settled(bad)
    assert (delivery.status, delivery.reason, delivery.graph_code) == (
        Status.DEAD,
        "invalid_recipients",
        "ErrorInvalidRecipients",
    )
    with pytest.raises(MailDead, match="invalid_recipients, HTTP 400, ErrorInvalidRecipients"):
        AsyncResult(bad, app=room.celery()).get(timeout=5)


def test_states_between_take_in_and_the_end_are_celery_s_own(room: Room) -> None:
    producer, client = room.celery(), room.client()
    later = client.send(a_mail(scheduled_at=datetime(2099, 1, 1, tzinfo=UTC))).id
    now = client.send(a_mail()).id

    assert AsyncResult(now, app=producer).state == "PENDING"
    room.start_worker_process()
    until(lambda: AsyncResult(later, app=producer).state == "RETRY", "the scheduled mail to show as RETRY")
    assert client.cancel(later).status is Status.CANCELLED
    assert AsyncResult(later, app=producer).state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        AsyncResult(later, app=producer).get(timeout=5)


@pytest.mark.parametrize("arguments", [("--pool", "prefork", "--processes", "1", "--concurrency", "2"), ()])
def test_both_pools_deliver_and_stop_in_order(room: Room, arguments: tuple[str, ...]) -> None:
    worker = room.start_worker(*arguments)
    jobs = [room.client().send(a_mail(to=[f"u{n}@contoso.com"])).id for n in range(5)]

    assert {room.settled(job).status for job in jobs} == {Status.ACCEPTED}
    assert room.end(worker) == 0


def test_celery_s_own_command_works_as_well(room: Room) -> None:
    worker = room.start_worker_process()

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED
    assert room.end(worker) == 0


def test_results_reach_a_sql_backend_even_when_the_worker_died_before_storing_them(open_room: OpenRoom) -> None:
    room = open_room()
    backend = f"db+sqlite:///{room.folder}/results.db"
    producer, client = room.celery(backend), room.client()
    room.start_worker_process(POSTROOM_RESULT_BACKEND=backend)
    first = client.send(a_mail()).id
    assert AsyncResult(first, app=producer).get(timeout=30)["id"] == first
    room.kill()
    cancelled = client.send(a_mail()).id
    client.cancel(cancelled)  # settled, and not stored: as a worker leaves it that dies between the two
    dead = client.send(a_mail(html=None, text=None, template="nonesuch")).id

    room.start_worker_process(POSTROOM_RESULT_BACKEND=backend)

    until(lambda: AsyncResult(cancelled, app=producer).state == "REVOKED", "the cancelled mail's result")
    with pytest.raises(MailDead, match="template"):
        AsyncResult(dead, app=producer).get(timeout=30)
    until(lambda: not room.redis.exists("{postroom}:results"), "all results to be stored")


def test_a_certificate_serves_as_well_as_a_secret(open_room: OpenRoom, tmp_path: object) -> None:
    from .certificates import self_signed

    certificate, pem = self_signed()
    room = open_room(certificates=(certificate,))
    (room.folder / "app.pem").write_text(pem)
    room.environment.pop("POSTROOM_CLIENT_SECRET")
    room.start_worker_process(POSTROOM_CLIENT_CERTIFICATE=str(room.folder / "app.pem"))

    assert room.settled(room.client().send(a_mail()).id).status is Status.ACCEPTED


def test_a_wrong_secret_kills_no_mail_and_after_the_repair_it_flows_by_itself(room: Room) -> None:
    room.sandbox.set_secrets("another one")
    room.start_worker_process()
    job_id = room.client().send(a_mail()).id
    held = until(lambda: room.client().status(job_id).attempts, "the refusal")[0]
    assert (held.outcome, held.graph_code) == ("held", "AADSTS7000215")
    assert room.client().status(job_id).pause_reason == "invalid_client_secret"

    room.sandbox.set_secrets(room.address.client_secret)

    assert room.settled(job_id).status is Status.ACCEPTED


def test_a_template_with_a_typo_is_a_dead_letter_that_names_file_and_line(room: Room) -> None:
    templates = room.folder / "templates" / "broken"
    templates.mkdir(parents=True)
    (templates / "subject.txt").write_text("Hello")
    (templates / "body.txt").write_text("Hello\n{{ nmae }}")
    room.start_worker_process(POSTROOM_TEMPLATES=str(templates.parent))

    delivery = room.settled(room.client().send(a_mail(text=None, template="broken", variables={"name": "Ann"})).id)

    assert (delivery.status, delivery.reason) == (Status.DEAD, "template")
    assert "broken/body.txt line 2: 'nmae' is undefined; but there is \"name\"" in (delivery.attempts[0].detail or "")


def test_the_log_says_what_happened_and_holds_no_address_and_no_secret(room: Room) -> None:
    room.start_worker_process("--loglevel", "DEBUG")
    job_id = room.settled(room.client().send(a_mail(to=["secret.person@contoso.com"], subject="Secret")).id).id
    producer = room.celery()
    mail = {"from": SENDER, "to": ["secret.person@contoso.com"], "text": "Secret"}
    room.settled_task(producer.send_task("postroom.send", args=[mail], queue="postroom").id)
    for wrong in ("postroom.sned", "postroom.round"):  # one that is none, and one with the wrong arguments
        producer.send_task(wrong, args=[mail, mail], queue="postroom", ignore_result=True)
    until(lambda: "postroom.sned" in room.raw_log(), "Celery's line about a task that is none")
    room.settled(room.client().send(a_mail()).id)

    event = until(lambda: [line for line in room.log() if line.get("job") == job_id], "the event")[0]

    assert event["event"] == "mail.accepted"
    said = room.raw_log()
    assert not [leak for leak in ("secret.person", SENDER, "Secret", room.address.client_secret, "eyJ") if leak in said]
