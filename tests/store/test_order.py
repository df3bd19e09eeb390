"""Which of a lane's jobs is claimed next, and when a lane wakes for it."""

from postroom.store.functions import PREFIX

from .room import SENDER, Room, mail


def test_high_goes_before_normal_before_low_and_the_older_first(room: Room) -> None:
    names = [room.take(mail(priority=p)) for p in ("low", "normal", "high", "normal", "high")]

    assert [room.send() for _ in names] == [names[i] for i in (2, 4, 1, 3, 0)]


def test_low_still_gets_one_claim_in_ten_even_while_high_never_ends(room: Room) -> None:
    low = {room.take(mail(priority="low")) for _ in range(3)}
    for _ in range(30):
        room.take(mail(priority="high"))

    sent = [room.send() for _ in range(30)]

    assert [len(low & set(sent[start : start + 10])) for start in (0, 10, 20)] == [1, 1, 1]


def test_a_high_job_asks_on_the_queue_that_is_read_first_even_when_the_other_is_long(room: Room) -> None:
    for i in range(40):
        room.take(mail(f"m{i}@contoso.com"))
    assert room.redis.llen("postroom") == 17  # two for each worker slot, and one

    room.take(mail("m39@contoso.com", priority="high"))

    assert room.redis.llen("postroom.high") == 1


def test_a_scheduled_job_wakes_its_lane_when_it_is_due(room: Room) -> None:
    job_id = room.take(mail(scheduled_at=room.at(20)))
    room.tick(19)
    assert (room.claim(), room.rounds()) == (None, [])

    room.tick(1)

    assert room.rounds() == [SENDER]
    assert room.held().id == job_id


def test_a_job_that_expires_while_it_waits_ends_as_expired(room: Room) -> None:
    job_id = room.take(mail(expires_at=room.at(5)))
    room.tick(5)

    assert room.read(job_id).status == "expired"


def test_an_expired_job_is_not_claimed_even_before_a_tick_saw_it(room: Room) -> None:
    late, good = room.take(mail(expires_at=room.at(5))), room.take()
    room.jump(6)

    assert room.held().id == good
    assert room.read(late).status == "expired"


def test_jobs_that_are_due_and_expire_in_one_late_tick_all_end(room: Room) -> None:
    jobs = [room.take(mail(scheduled_at=room.at(3), expires_at=room.at(20))) for _ in range(3)]
    room.jump(30)
    room.tick()

    assert {room.read(job).status for job in jobs} == {"expired"}
    assert room.claim() is None
    assert room.redis.keys(PREFIX + "ready:*") == []
