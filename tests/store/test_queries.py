"""A job is found by what is known of it, and its record is read as it was written."""

from postroom.jobs.job import Status, recipient_token
from postroom.jobs.job_filter import JobFilter
from postroom.store.functions import PREFIX

from .room import OTHER, SENDER, Room, mail, throttled


def test_a_job_for_500_recipients_is_found_by_each_and_swept_from_each(room: Room) -> None:
    job_id = room.take(mail(to=500))

    assert room.ledger.records.newest(JobFilter(to="ann499@contoso.com"), 5)[0].id == job_id
    room.send()
    room.jump(3601)
    room.tick()
    assert room.redis.keys(PREFIX + "to:*") == []


def test_a_record_of_a_newer_version_keeps_the_fields_this_one_does_not_know(room: Room) -> None:
    job_id = room.take()
    room.redis.hset(f"{PREFIX}job:{job_id}", mapping={"colour": "green", "nuance": ""})
    room.send(throttled(1))
    room.jump(1)
    room.send()

    assert room.read(job_id).status == "accepted"
    assert room.record(job_id)[b"colour"] == b"green"


def test_a_record_deleted_by_hand_does_not_stop_the_clock(room: Room) -> None:
    ids = [room.take(mail(expires_at=room.at(5))), room.take(), room.take(mail(scheduled_at=room.at(5)))]
    room.send()
    room.held()
    room.redis.delete(*(f"{PREFIX}job:{job_id}" for job_id in ids))
    good = room.take(mail(OTHER, scheduled_at=room.at(9)))
    room.tick(70)
    room.jump(3601)
    room.tick()

    assert room.held(OTHER).id == good


def test_a_recipient_is_found_without_an_address_in_any_key(room: Room) -> None:
    job_id = room.take(mail(to=2))

    assert [found.id for found in room.ledger.records.newest(JobFilter(to="ANN1@contoso.com"), 5)] == [job_id]
    assert not [key for key in room.redis.scan_iter() if b"ann" in key]
    assert len(recipient_token("ann@contoso.com")) == 16


def test_a_job_is_found_by_each_thing_that_is_known_of_it(room: Room) -> None:
    wanted = room.take(mail(to=1, tags=("orders", "shop")), key="order/1", batch="november")
    room.jump(60)
    room.take(mail(OTHER, to=2, tags=("shops",)), key="order/2", batch="december")

    for filters in (
        {"key": "order/1"},
        {"batch": "november"},
        {"senders": [SENDER]},
        {"status": Status.QUEUED, "senders": [SENDER]},
        {"tag": "shop"},
        {"until": room.at(-30)},
        {"since": room.at(-90), "until": room.at(-30), "key": "order/1"},
        {"to": "ann0@contoso.com", "batch": "november"},
    ):
        assert [found.id for found in room.ledger.records.newest(JobFilter(**filters), 5)] == [wanted]
    assert room.ledger.records.newest(JobFilter(key="order/1", senders=[OTHER]), 5) == []
    assert room.ledger.records.newest(JobFilter(key="order/3"), 5) == []
    assert room.ledger.records.newest(JobFilter(tag="order"), 5) == [], "a part of a tag is none"
    assert room.ledger.records.read(wanted).tags == ("orders", "shop")
