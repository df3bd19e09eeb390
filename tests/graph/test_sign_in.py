"""A person signs in by a code in the sandbox over TLS; tokens come by refresh tokens from then on."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.graph.credentials import Identity, SignedInUser
from postroom.graph.sign_in import KeptSignIn, SignInFailed, SignIns, scopes_for, sign_in
from postroom.graph.tokens import Token, Tokens
from postroom.jobs.outcome import Held
from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.transport.http import Http, Response
from postroom.transport.requests_http import RequestsHttp

CLERK, ADMIN = "clerk@contoso.com", "admin@contoso.com"
KEY = "a key of thirty-two characters!!"


class Text:
    """A text in memory."""

    def __init__(self) -> None:
        self.text: str | None = None

    def load(self) -> str | None:
        return self.text

    def save(self, text: str) -> None:
        self.text = text

    def replace(self, before: str, text: str) -> None:
        if self.text == before:
            self.text = text


@pytest.fixture(scope="module")
def address() -> Iterator[SandboxAddress]:
    with running(SandboxOptions(is_public=True, device_interval=1)) as address:
        yield address


@pytest.fixture
def control(address: SandboxAddress) -> Iterator[Sandbox]:
    with Sandbox.at(address) as control:
        control.reset()
        yield control


def signed_in(address: SandboxAddress, control: Sandbox, user: str = CLERK) -> KeptSignIn:
    def show(words: str) -> None:
        (code,) = re.findall(r"code ([A-Z0-9]{9})", words)
        control.sign_in(code, user)

    authority = f"{address.authority_url}/{address.tenant_id}"
    http = RequestsHttp(Path(address.ca_file))
    return sign_in(address.client_id, authority, address.graph_url, scopes_for(["shared"]), http, show)


def tokens(address: SandboxAddress, kept: Any, http: Http | None = None) -> Tokens:
    identity = Identity(
        tenant_id=address.tenant_id,
        client_id=address.client_id,
        authority_url=address.authority_url,
        graph_url=address.graph_url,
        credential=SignedInUser(kept),
    )
    return Tokens(identity, http or RequestsHttp(Path(address.ca_file)))


@pytest.mark.parametrize(
    ("features", "scopes"),
    [
        ([], ("Mail.Send",)),
        (["draft", "look-up"], ("Mail.Send", "Mail.ReadWrite", "Mail.Read")),
        (["draft", "shared"], ("Mail.Send", "Mail.ReadWrite", "Mail.Send.Shared", "Mail.ReadWrite.Shared")),
    ],
)
def test_only_what_the_features_need_is_asked_for(features: list[str], scopes: tuple[str, ...]) -> None:
    assert scopes_for(features) == scopes


def test_who_has_signed_in_gets_tokens_again_and_again(address: SandboxAddress, control: Sandbox) -> None:
    text = Text()
    kept = SignIns(text, KEY)
    kept.save(signed_in(address, control))
    assert text.text is not None
    assert "refresh" not in text.text.lower()
    assert CLERK not in text.text

    asked = tokens(address, kept)
    first, before = asked.probe(), text.text
    again = asked.probe()

    assert isinstance(first, Token)
    assert isinstance(again, Token)
    assert first.value != again.value
    assert text.text != before, "each answer has a new refresh token, and that one is kept"
    there = kept.load()
    assert there is not None
    assert (there.user, there.scopes) == (CLERK, ("Mail.Send", "Mail.Send.Shared"))


def test_who_declines_is_not_signed_in(address: SandboxAddress, control: Sandbox) -> None:
    with pytest.raises(SignInFailed, match="denied"):
        signed_in(address, control, user="")


def test_a_sign_in_that_was_revoked_holds_the_app_until_the_next_one(address: SandboxAddress, control: Sandbox) -> None:
    kept = SignIns(Text(), KEY)
    kept.save(signed_in(address, control))
    asked = tokens(address, kept)
    control.revoke_sign_ins(CLERK)

    held = asked.probe()
    assert isinstance(held, Held)
    assert (held.reason, held.no_token) == ("sign_in_needed", True)
    assert "revoked" in str(held.answer.detail)

    kept.save(signed_in(address, control))
    assert isinstance(asked.probe(), Token)


class Meanwhile(RequestsHttp):
    """Lets something happen while Entra is asked."""

    def __init__(self, ca_file: Path, happens: Callable[[], object]) -> None:
        super().__init__(ca_file)
        self.happens = happens

    def exchange(self, *given: Any, **named: Any) -> Response:
        answer = super().exchange(*given, **named)
        self.happens()
        return answer


def test_who_signs_in_while_a_token_is_renewed_is_not_put_back_by_the_one_before(
    address: SandboxAddress, control: Sandbox
) -> None:
    kept = SignIns(Text(), KEY)
    kept.save(signed_in(address, control))
    other = signed_in(address, control, ADMIN)

    assert isinstance(tokens(address, kept, Meanwhile(Path(address.ca_file), lambda: kept.save(other))).probe(), Token)

    assert kept.load() == other


def test_a_sign_in_that_is_forgotten_while_a_token_is_renewed_does_not_come_back(
    address: SandboxAddress, control: Sandbox
) -> None:
    text = Text()
    kept = SignIns(text, KEY)
    kept.save(signed_in(address, control))

    def forget() -> None:
        text.text = None

    assert isinstance(tokens(address, kept, Meanwhile(Path(address.ca_file), forget)).probe(), Token)

    assert kept.load() is None


def test_a_sign_in_shows_no_token(address: SandboxAddress, control: Sandbox) -> None:
    there = signed_in(address, control)
    assert "secret" in there.cache
    assert "secret" not in repr(there)


def test_where_nobody_has_signed_in_the_app_is_held(address: SandboxAddress) -> None:
    held = tokens(address, SignIns(Text(), KEY)).probe()
    assert isinstance(held, Held)
    assert (held.reason, held.answer.detail) == ("sign_in_needed", "nobody has signed in for this app")


def test_another_key_opens_no_sign_in(address: SandboxAddress, control: Sandbox) -> None:
    text = Text()
    SignIns(text, KEY).save(signed_in(address, control))
    held = tokens(address, SignIns(text, "another key of thirty-two chars!")).probe()
    assert isinstance(held, Held)
    assert "another POSTROOM_SIGN_IN_KEY" in str(held.answer.detail)
