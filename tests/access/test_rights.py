"""Who may do what, for every door: what a caller may do with mail of its own senders and with that of others."""

import base64

import pytest

from postroom.access.api_keys import ApiKey
from postroom.access.rights import OWN, Caller, DoorKey, Scope, content_key, event_key, own_key
from postroom.access.smtp_logins import Login
from postroom.errors import InvalidMail
from postroom.jobs.job import moment
from postroom.mail.model import Mail

MINE, OTHER = "shop@contoso.com", "hr@contoso.com"


def api_key(*scopes: Scope, senders: tuple[str, ...] = (MINE,)) -> Caller:
    key = ApiKey(id="0a1b", name="shop", scopes=scopes, senders=senders, rate=(1, 1.0), created_at=moment(0))
    return key.caller


CALLERS = {
    "a key for one sender": (api_key(Scope.SEND), (Scope.SEND,), False),
    "a key for all senders": (api_key(Scope.SEND, senders=()), (Scope.SEND,), True),
    "a key that reads": (api_key(Scope.READ), (Scope.READ,), False),
    "a key that operates": (api_key(Scope.OPERATE), (Scope.OPERATE,), False),
    "a key that reads content": (api_key(Scope.READ, Scope.CONTENT), (Scope.READ, Scope.CONTENT), False),
    "an SMTP login": (Login(name="shop", senders=("Shop@contoso.com",)).caller, (Scope.SEND,), False),
    "an SMTP login for a domain": (Login(name="shop", senders=("*@contoso.com",)).caller, (Scope.SEND,), True),
    "an SMTP network": (Login(name="", senders=("*",)).caller, (Scope.SEND,), True),
    "the client, a task, the command line": (OWN, tuple(Scope), True),
}


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("scope", Scope)
def test_a_caller_does_what_its_scopes_say(who: str, scope: Scope) -> None:
    caller, scopes, _ = CALLERS[who]
    assert caller.may(scope) == (scope in scopes)


@pytest.mark.parametrize("who", CALLERS)
def test_a_caller_uses_its_senders_mail_and_that_of_others_only_if_it_is_for_all(who: str) -> None:
    caller, _, for_all = CALLERS[who]
    assert caller.may_use(MINE)
    assert caller.may_use(MINE.upper())
    assert caller.may_use(OTHER) == for_all
    assert caller.may_use_all([MINE, OTHER]) == for_all
    assert caller.may_send(mail_from(MINE))
    assert caller.may_send(mail_from(OTHER)) == for_all


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("author", [f"From: {OTHER}", f"From: {MINE}\r\nSender: {OTHER}", f"From: {MINE}, {OTHER}"])
def test_a_source_may_name_as_its_author_whom_the_caller_may_use(who: str, author: str) -> None:
    caller, _, for_all = CALLERS[who]
    source = base64.b64encode(f"{author}\r\nSubject: a\r\n\r\nHi\r\n".encode()).decode()
    mail = Mail.model_validate({"from": MINE, "to": ["a@b.com"], "mime": source})
    assert caller.may_send(mail) == for_all


@pytest.mark.parametrize(
    ("scopes", "fields", "lacks"),
    [
        ((Scope.OPERATE,), ["priority", "expires_at"], ()),
        ((Scope.OPERATE,), ["text"], (Scope.SEND, Scope.READ)),
        ((Scope.OPERATE,), ["to"], (Scope.SEND, Scope.READ, Scope.CONTENT)),
        ((Scope.OPERATE,), ["a field of later"], (Scope.SEND, Scope.READ)),
        ((Scope.OPERATE, Scope.SEND, Scope.READ), ["template", "variables"], ()),
        ((Scope.OPERATE, Scope.SEND, Scope.READ), ["reply_to"], (Scope.CONTENT,)),
        ((Scope.SEND, Scope.READ, Scope.CONTENT), ["priority"], (Scope.OPERATE,)),
        (tuple(Scope), ["to", "text", "from", "mime"], ()),
    ],
)
def test_what_is_changed_of_a_dead_letter_needs_what_it_is_worth(
    scopes: tuple[Scope, ...], fields: list[str], lacks: tuple[Scope, ...]
) -> None:
    assert api_key(*scopes).lacks_to_change(fields) == lacks


# Keys


def keys_of(given: str) -> dict[str, str | None]:
    """What each door makes of the same text; None if it refuses it."""
    named = {who: str(caller.key(given)) for who, (caller, _, _) in CALLERS.items() if caller is not OWN}
    named["an event"] = str(event_key(given))
    named["a message without a key"] = str(content_key("0123456789abcdef"))
    try:
        named["the client, a task, the command line"] = own_key(given)
    except InvalidMail:
        named["the client, a task, the command line"] = None
    return named


@pytest.mark.parametrize(
    "given", ["order/4711", "event/ready/1", "api/0a1b/x", "smtp/shop/x", "shop/x", "/x", "0123456789abcdef", "task/x"]
)
def test_no_door_writes_a_key_of_another(given: str) -> None:
    doors = {"a key": "api/0a1b/", "an SMTP login": "smtp/shop/", "an SMTP network": "smtp//", "an event": "event/"}
    for who, key in keys_of(given).items():
        prefix = next((prefix for door, prefix in doors.items() if who.startswith(door)), None)
        if prefix:
            assert key == prefix + given
        elif who == "the client, a task, the command line":
            assert key is None or not key.startswith(("api/", "event/", "smtp/"))


def test_programs_of_ours_keep_the_keys_that_they_give() -> None:
    assert own_key("order/4711") == "order/4711"
    assert own_key(None) is None
    for door in ("api/", "event/", "smtp/"):
        with pytest.raises(InvalidMail, match="came in otherwise"):
            own_key(f"{door}x")
    assert own_key(DoorKey("api/0a1b/x")) == "api/0a1b/x"  # a door of ours made it


def mail_from(sender: str) -> Mail:
    return Mail.model_validate({"from": sender, "to": ["a@b.com"], "text": "Hi"})
