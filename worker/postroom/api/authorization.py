"""Checks the bearer key of a request: its scope, its senders and its pace."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from postroom.access.api_keys import ApiKey
from postroom.access.rights import Scope
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import Refusal, Unauthorized, WrongKey, rate_limited
from postroom.errors import UnknownJob
from postroom.jobs.job import Delivery

bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key that `postroom keys create` printed.")


def allowed(services: Services, request: Request, secret: str | None, scope: Scope) -> ApiKey:
    """The key with this secret. Refusal if there is none, if it lacks the scope, or if it is used too often.

    What the request takes of memory counts as this key's from then on.
    """
    used = services.keys.use(secret) if secret else None
    if used is None:
        if secret:
            raise WrongKey("this key is unknown or revoked")
        raise Unauthorized("a key is needed: Authorization: Bearer pr_…")
    key, wait_s = used
    request.state.key_id = key.id
    if wait_s:
        raise rate_limited(f"this key may make {key.rate[0]} requests in {key.rate[1]:g} s", wait_s)
    must_have(key, scope)
    return key


def _may(scope: Scope) -> Callable[..., ApiKey]:
    def check(
        services: WithServices,
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None,
    ) -> ApiKey:
        return allowed(services, request, credentials.credentials if credentials else None, scope)

    return check


MayRead = Annotated[ApiKey, Security(_may(Scope.READ))]
MayOperate = Annotated[ApiKey, Security(_may(Scope.OPERATE))]


def own(key: ApiKey, delivery: Delivery) -> Delivery:
    """The same delivery, if the key may see it. Otherwise UnknownJob, as if there were no such job."""
    if not key.caller.may_use(delivery.sender):
        raise UnknownJob(delivery.id)
    return delivery


def must_have(key: ApiKey, scope: Scope) -> None:
    """Refusal if the key lacks this scope."""
    if not key.caller.may(scope):
        raise lacking(key, scope)


def lacking(key: ApiKey, *scopes: Scope) -> Refusal:
    """The answer to what needs these scopes."""
    message = f"this key lacks the scope{'s' * (len(scopes) > 1)} {' and '.join(scopes)}"
    return Refusal(403, "forbidden", message, {"scopes": list(key.scopes)})
