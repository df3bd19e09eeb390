"""How many rounds are asked for, and which lanes get the workers' slots."""

from postroom.store.functions import PREFIX

from .room import ACCEPTED, NO_ANSWER, SENDER, Room, mail


def test_a_round_is_asked_for_each_free_slot_and_no_more(room: Room) -> None:
    for _ in range(9):
        room.take()
    assert room.rounds() == [SENDER] * 2  # the first that starts asks for the others
    room.sending()
    assert room.rounds() == [SENDER] * 2  # so three are on their way

    room.tick(29)
    assert room.rounds() == []
    room.tick(2)
    assert room.rounds() == [SENDER] * 3  # whatever became of the others


def test_a_high_job_has_a_round_of_its_own_though_others_are_on_their_way(room: Room) -> None:
    for _ in range(3):
        room.take()

    room.take(mail(priority="high"))

    assert room.redis.llen("postroom.high") >= 1


def test_rounds_are_not_asked_for_while_the_queue_is_long_and_the_oldest_wait_comes_first(room: Room) -> None:
    room.quick("m20@contoso.com")
    for i in range(30):
        room.take(mail(f"m{i:02}@contoso.com"))
        room.jump(0.001)
    for _ in range(20):
        room.take(mail("m20@contoso.com"))
        room.jump(0.001)
    assert len(room.rounds()) == 17

    room.tick()

    waiting = [f"m{i}@contoso.com" for i in range(17, 30)]
    assert room.rounds() == waiting + ["m20@contoso.com"] * 3  # each in turn, not all to one


def test_lanes_with_slow_answers_hold_at_most_half_of_the_worker_slots(room: Room) -> None:
    lanes = [f"slow{i}@contoso.com" for i in range(6)]
    room.slow(*lanes)
    for lane in lanes:
        room.take(mail(lane))
    jobs = [room.sending(lane) for lane in lanes[:4]]
    assert room.claim(lanes[4]) is None
    assert room.claim(lanes[5]) is None
    room.rounds()
    room.jump(3)

    room.settle(jobs[0], NO_ANSWER)

    assert room.rounds() == [lanes[4]]
    assert room.claim(lanes[4]) is not None


def test_lanes_of_unknown_speed_leave_a_quarter_of_the_worker_slots_to_quick_ones(room: Room) -> None:
    lanes = [f"new{i}@contoso.com" for i in range(8)]
    for lane in lanes:
        room.take(mail(lane))
        room.take(mail(lane))
    for lane in lanes[:6]:
        room.sending(lane)

    assert [room.claim(lane) for lane in lanes[6:]] == [None, None]


def test_a_lane_of_unknown_speed_sends_one_mail_first(room: Room) -> None:
    for _ in range(5):
        room.take(mail("new@contoso.com"))
    first = room.sending("new@contoso.com")
    assert room.claim("new@contoso.com") is None

    room.settle(first, ACCEPTED)

    assert [room.claim("new@contoso.com") is not None for _ in range(5)] == [True] * 4 + [False]


def test_new_lanes_find_a_worker_slot_while_others_hang(room: Room) -> None:
    for i in range(6):
        room.take(mail(f"hanging{i}@contoso.com"))
        room.sending(f"hanging{i}@contoso.com")
        room.tick(3)  # long enough to be seen as slow

    room.redis.srem(PREFIX + "hands:slow", *room.redis.srandmember(PREFIX + "hands:slow", 2))  # half, as later on
    room.take(mail("new@contoso.com"))
    assert room.claim("new@contoso.com") is not None


def test_a_lane_known_to_be_quick_counts_as_slow_while_a_request_of_it_hangs(room: Room) -> None:
    room.take()
    room.send()
    room.slow(*(f"slow{i}@contoso.com" for i in range(4)))
    for i in range(4):
        room.take(mail(f"slow{i}@contoso.com"))
        room.sending(f"slow{i}@contoso.com")
    for _ in range(3):
        room.take()
    hanging = room.sending()
    assert hanging
    room.tick(3)

    assert room.claim() is None  # its own request hangs by now


def test_a_free_worker_slot_goes_to_the_next_lane_when_the_first_has_no_job_to_give(room: Room) -> None:
    lanes = [f"slow{i}@contoso.com" for i in range(6)]
    room.slow(*lanes)
    for lane in lanes[:4]:
        room.take(mail(lane))
    jobs = [room.sending(lane) for lane in lanes[:4]]
    first, _ = room.take(mail(lanes[4])), room.take(mail(lanes[5]))
    room.redis.zrem(PREFIX + "lanes", lanes[4])
    room.ledger.pause("lane", lanes[4], 600, "maintenance", now=room.now)
    room.rounds()

    room.settle(jobs[0], NO_ANSWER)

    assert room.read(first).status == "queued"
    assert room.rounds() == [lanes[5]]
