"""After a 429 or failures in a row a lane or an app pauses, and one job at a time tries whether it works again."""

from dataclasses import replace

from postroom.jobs.outcome import Answer, Deferred, Scope, Throttled

from .room import ACCEPTED, BUSY, FREE, NO_ANSWER, NO_TOKEN, OTHER, SENDER, UNREACHABLE, Room, mail, throttled


def test_a_retry_after_pauses_the_whole_lane_and_costs_no_attempt(room: Room) -> None:
    job_id = room.take()
    room.take()
    room.take(mail(OTHER))
    room.send(throttled(30))

    assert room.claim() is None
    assert room.claim(OTHER) is not None
    assert room.read(job_id).next_at == room.at(30)
    room.jump(30)
    assert room.held().attempts == 0


def test_a_pause_is_only_lengthened_and_no_answer_under_way_ends_it(room: Room) -> None:
    for _ in range(4):
        room.take()
    first, second, third, fourth = (room.sending() for _ in range(4))
    room.settle(first, throttled(30))
    room.settle(second, throttled(5))
    room.settle(third, ACCEPTED)
    room.jump(10)
    room.settle(fourth, throttled(25))

    assert room.wakes_in() == 25


def test_throttles_in_a_row_double_the_pause_and_four_answers_of_one_event_count_once(room: Room) -> None:
    for _ in range(4):
        room.take()
    jobs = [room.sending() for _ in range(4)]
    for job in jobs:
        room.settle(job, throttled(10))
        room.jump(4)  # the last two answers come when the pause is over already
    assert room.wakes_in() <= 10
    for wait in (20, 40, 80):
        room.jump(max(room.wakes_in(), 0))
        room.send(throttled(10))
        assert room.wakes_in() == wait


def test_while_a_lane_is_in_trouble_one_job_at_a_time_goes_on(room: Room) -> None:
    for _ in range(5):
        room.take()
    room.send(throttled(10))
    room.jump(10)

    probe = room.sending()
    assert room.claim() is None
    room.settle(probe, ACCEPTED)
    assert [room.claim() is not None for _ in range(5)] == [True] * 4 + [False]


def test_while_an_app_is_in_trouble_one_job_of_all_its_lanes_goes_on(room: Room) -> None:
    room.take()
    for lane in (SENDER, OTHER):
        room.take(mail(lane))
    room.send(UNREACHABLE)
    assert room.claim(OTHER) is None
    room.jump(2)
    room.rounds()

    probe = room.sending()
    room.jump(59)  # longer than its claim's own lease, had the mark not renewed it
    assert room.claim(OTHER) is None
    room.settle(probe, ACCEPTED)
    room.tick()
    assert OTHER in room.rounds()
    assert room.claim(OTHER) is not None


def test_trouble_with_tokens_is_over_as_soon_as_there_is_one(room: Room) -> None:
    room.take()
    room.take(mail(OTHER))
    room.settle(room.held(), UNREACHABLE)
    room.jump(5)

    room.sending()

    assert room.claim(OTHER) is not None


def test_no_connection_pauses_longer_each_time_up_to_a_minute_and_costs_nothing(room: Room) -> None:
    job_id = room.take()
    waits = []
    for _ in range(8):
        room.send(UNREACHABLE)
        waits.append(room.wakes_in())
        room.jump(waits[-1])

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert room.held().attempts == 0
    assert room.read(job_id).status == "deferred"


def test_three_failures_in_a_row_pause_the_lane_and_a_202_ends_the_row(room: Room) -> None:
    for outcome in (BUSY, NO_ANSWER, ACCEPTED, BUSY, NO_ANSWER):
        room.take()
        room.send(outcome)
    job_id = room.take()
    assert room.wakes_in() > 2  # a round is asked for, so the lane need not wake

    room.send(NO_ANSWER)
    room.take()
    assert room.claim() is None
    assert room.wakes_in() == 2
    room.jump(2)
    assert room.held().id != job_id
    assert room.claim() is None


def test_failures_of_three_lanes_pause_their_app_and_the_next_probe_is_another_lane_s(room: Room) -> None:
    lanes = [f"m{i}@contoso.com" for i in range(3)]
    for lane in lanes:
        room.take(mail(lane))
        room.take(mail(lane))
        room.send(BUSY, lane)
    room.take()
    assert room.claim() is None

    room.jump(2)

    assert room.claim(lanes[2]) is None
    room.send(ACCEPTED)
    assert room.claim(lanes[0]) is not None


def test_one_broken_mailbox_pauses_nobody_else(room: Room) -> None:
    room.quick(OTHER)
    for _ in range(6):
        room.take()
        room.jump(300)
        room.send(NO_ANSWER)
        room.take(mail(OTHER))
        room.send(lane=OTHER)


def test_a_job_claimed_before_a_pause_began_is_not_sent_into_it(room: Room) -> None:
    room.take()
    room.take()
    sending, held = room.sending(), room.held()
    room.settle(sending, throttled(30))

    assert room.mark(held) == "wait"
    room.settle(held, Throttled(wait_s=1.0))
    assert room.read(held.id).next_at == room.at(30)
    room.jump(30)
    assert room.mark(room.held()) == "marked"


def test_a_second_request_is_not_sent_into_a_pause_either(room: Room) -> None:
    room.take()
    room.take()
    rejected, other = room.sending(), room.sending()
    room.settle(other, throttled(30))

    assert room.mark(rejected) == "wait"


def test_a_503_with_a_retry_after_pauses_the_whole_lane(room: Room) -> None:
    room.take()
    room.take()
    busy = Deferred(reason="server_busy", scope=Scope.LANE, wait_s=20, answer=Answer(http_status=503))
    room.send(busy)

    assert room.claim() is None
    assert room.wakes_in() == 20


def test_waiting_for_a_second_request_s_rate_is_no_trouble(room: Room) -> None:
    room.publish(lanes={SENDER: replace(FREE, rates=((4, 10),))})
    for _ in range(6):
        room.take()
    jobs = [room.sending() for _ in range(4)]
    assert room.mark(jobs[0]) == "wait"
    room.settle(jobs[0], Throttled(wait_s=1.0))
    room.jump(11)

    assert room.claim() is not None


def test_a_job_that_waits_behind_its_app_says_until_when_and_why(room: Room) -> None:
    room.take()
    behind = room.take(mail(OTHER))
    room.settle(room.held(), NO_TOKEN)

    found = room.ledger.records.read(behind, now=room.now)

    assert (found.status, found.pause_reason) == ("queued", "invalid_client_secret")
    assert found.paused_until is not None


def test_a_lane_that_was_paused_since_makes_no_further_request(room: Room) -> None:
    room.take()
    job = room.held()
    room.ledger.pause("lane", SENDER, 7, "throttled", now=room.now)

    assert room.ledger.note(job, {"draft": "d-1"}, 0, 60, now=room.now) == 7
    assert room.record(job.id)[b"draft"] == b"d-1"
