"""`postroom sign-in`: a person signs in for an app that sends as this person."""

import click

from postroom.cli.options import fail
from postroom.cli.printable import say
from postroom.errors import ConfigError
from postroom.graph.sign_in import FEATURES, NotSignedIn, SignIns, scopes_for, sign_in
from postroom.settings.loading import load_settings
from postroom.settings.model import Credential, Settings
from postroom.store.connection import connect
from postroom.store.sign_ins import SignInText
from postroom.wiring import identity, sign_ins, transport


@click.command("sign-in")
@click.option("--app", default="default", show_default=True, help="Which app registration, as in postroom.toml.")
@click.option(
    "--feature",
    "features",
    type=click.Choice(list(FEATURES)),
    multiple=True,
    help="What else it may do: make drafts for large files, look for mail whose outcome nobody knows, or send from "
    "shared mailboxes; may be given several times.",
)
@click.option("--show", is_flag=True, help="Only say who has signed in.")
@click.option("--forget", is_flag=True, help="Remove the sign-in; the app's mail is held then.")
def sign_in_(app: str, features: tuple[str, ...], show: bool, forget: bool) -> None:
    """Sign in as the person as whom an app sends (POSTROOM_CREDENTIAL=user)."""
    settings = load_settings()
    _check(settings, app)
    redis = connect(settings.redis_url, timeout_s=3.0, name="postroom-sign-in")
    if forget:
        there = SignInText(redis, app).forget()
        say(
            "The sign-in is removed. Tokens that workers have stay good for up to 90 minutes."
            if there
            else "There was none."
        )
        return
    kept = sign_ins(settings, app, redis)
    if kept is None:
        raise ConfigError([f"POSTROOM_SIGN_IN_KEY is missing: the sign-in of app {app} is encrypted with it"])
    if show:
        _show(kept)
        return
    who = identity(settings.all_apps[app])
    http = transport(settings)(str(settings.ca_bundle) if settings.ca_bundle else None)
    signed_in = sign_in(
        who.client_id,
        f"{who.authority_url.rstrip('/')}/{who.tenant_id}",
        who.graph_url,
        scopes_for(features),
        http,
        say,
    )
    kept.save(signed_in)
    say(f"{signed_in.user} has signed in for app {app}: {', '.join(signed_in.scopes)}. Held mail goes on by itself.")


def _check(settings: Settings, app: str) -> None:
    given = settings.all_apps.get(app)
    if given is None:
        raise ConfigError([f"there is no app {app}; there are {', '.join(settings.all_apps)}"])
    place = "POSTROOM_{}" if app == "default" else f"[apps.{app}] {{}}"
    if given.kind is not Credential.USER:
        raise ConfigError(
            [f"{place.format('CREDENTIAL')} is {given.kind or 'not set'}: only for `user` a person signs in"]
        )
    if faults := list(given.faults(place)):
        raise ConfigError(faults)


def _show(kept: SignIns) -> None:
    try:
        there = kept.load()
    except NotSignedIn as fault:
        fail(1, f"{fault}: run `postroom sign-in` again.")
    if there is None:
        fail(1, "Nobody has signed in: run `postroom sign-in`.")
    say(f"{there.user}: {', '.join(there.scopes)}")
