"""Mail follows its sender when newly published settings give it another lane."""

from postroom.store.functions import PREFIX

from .holds import release
from .room import OTHER, SENDER, Room, mail


def test_mail_goes_to_the_lane_that_new_settings_give_its_sender(room: Room) -> None:
    waiting, later = room.take(mail(OTHER)), room.take(mail(OTHER, scheduled_at=room.at(600)))
    room.publish(aliases={OTHER: SENDER})

    room.tick(5)

    assert [room.read(job).lane for job in (waiting, later)] == [SENDER, SENDER]
    assert room.claim(OTHER) is None
    assert room.send() == waiting
    room.tick(600)
    assert room.send() == later


def test_each_tick_moves_only_so_much_mail_to_another_lane_that_nobody_waits_for_redis(room: Room) -> None:
    senders = [f"s{number}@contoso.com" for number in range(4)]
    for sender in senders * 60:
        room.take(mail(sender))
    room.publish(aliases=dict.fromkeys(senders, SENDER))
    moved: list[int] = []

    while not moved or moved[-1] < 240:
        room.tick()
        moved.append(room.redis.zcard(f"{PREFIX}ready:normal:{SENDER}"))

    assert moved == [100, 200, 240]


def test_mail_behind_other_mail_of_its_lane_follows_new_settings_when_it_would_be_claimed(room: Room) -> None:
    stays, goes = room.take(), room.take(mail("alias@contoso.com"))
    room.publish(aliases={})
    room.tick(1)

    assert room.send() == stays
    assert room.claim() is None
    assert room.read(goes).lane == "alias@contoso.com"
    assert room.send(lane="alias@contoso.com") == goes


def test_a_lane_held_under_its_own_name_is_released_by_it_after_new_settings(room: Room) -> None:
    held = room.take(mail(OTHER))
    room.ledger.hold(sender=OTHER, by="ann", now=room.now)
    room.publish(aliases={OTHER: SENDER})
    room.tick(5)
    assert room.read(held).lane == OTHER

    assert release(room, sender=OTHER).was_held

    room.tick(5)
    assert room.claim(OTHER) is None
    assert room.send() == held


def test_a_rule_for_a_domain_is_the_lane_of_its_senders_but_of_those_that_have_their_own(room: Room) -> None:
    room.publish(aliases={"*@web1.example": SENDER, "hr@web1.example": "hr@web1.example"})
    root, hr = room.take(mail("root@web1.example")), room.take(mail("hr@web1.example"))

    assert (room.read(root).lane, room.read(hr).lane) == (SENDER, "hr@web1.example")
    assert [room.ledger.records.lane_of(one) for one in ("Cron@web1.example", "a@b.example")] == [SENDER, "a@b.example"]
    assert room.send() == root
