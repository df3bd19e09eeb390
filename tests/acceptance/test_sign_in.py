"""An app that sends as a person: the person signs in once, by a code, and mail of before and after is sent."""

import re
import subprocess
import sys
from collections.abc import Callable

from postroom import Status

from .conftest import PATIENCE_S, Room, a_mail, until

OpenRoom = Callable[..., Room]
CLERK = "clerk@contoso.com"


def sign_in(room: Room, *arguments: str) -> str:
    """What `postroom sign-in` prints where the clerk enters the code."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "postroom", "sign-in", *arguments],
        env=room.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        (code,) = re.findall(r"code ([A-Z0-9]{9})", process.stdout.readline())
        room.sandbox.sign_in(code, CLERK)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        return said


def test_mail_waits_for_the_sign_in_and_goes_from_the_person_s_mailbox_and_from_shared_ones(
    open_room: OpenRoom,
) -> None:
    room = open_room(
        {"POSTROOM_CREDENTIAL": "user", "POSTROOM_SIGN_IN_KEY": "k" * 32, "POSTROOM_HOLD_PROBE": "1s"},
        is_public=True,
        device_interval=1,
        shared_mailboxes={"office@contoso.com": (CLERK,)},
    )
    room.start_worker_process()
    client = room.client()
    before = client.send(a_mail(**{"from": CLERK})).id
    held = until(lambda: [one for one in client.holds() if one.reason == "sign_in_needed"], "the app to be held")
    assert held[0].scope == "app"
    assert room.postroom("sign-in", "--show").returncode == 1

    assert f"{CLERK} has signed in for app default: Mail.Send, Mail.Send.Shared" in sign_in(room, "--feature", "shared")

    assert room.settled(before).status is Status.ACCEPTED
    assert room.settled(client.send(a_mail(**{"from": "office@contoso.com"})).id).status is Status.ACCEPTED
    assert [message.mailbox for message in room.sandbox.messages()] == [CLERK, "office@contoso.com"]
    client.send(a_mail(**{"from": "boss@contoso.com"}))
    until(lambda: [one for one in client.holds() if one.reason == "access_denied"], "a mailbox that is not shared")
    assert room.postroom("sign-in", "--show").stdout == f"{CLERK}: Mail.Send, Mail.Send.Shared\n"

    assert room.postroom("sign-in", "--forget").returncode == 0
    assert room.postroom("sign-in", "--show").returncode == 1


def test_who_cannot_sign_in_is_told_why(open_room: OpenRoom) -> None:
    room = open_room()
    wrong = room.postroom("sign-in")
    assert (wrong.returncode, "POSTROOM_CREDENTIAL is secret: only for `user`" in wrong.stderr) == (2, True)

    room.environment |= {"POSTROOM_CREDENTIAL": "user"}
    assert "POSTROOM_SIGN_IN_KEY is missing" in room.postroom("sign-in").stderr

    room.environment |= {"POSTROOM_SIGN_IN_KEY": "k" * 32}
    refused = room.postroom("sign-in")  # the sandbox's app is no public client
    assert (refused.returncode, "sign-in by a code is not possible" in refused.stderr) == (1, True)
