"""Checks the bearer key of a request: its scope, its senders and its pace."""

import math
from collections.abc import Callable
from typing import Annotated

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from postroom.access.api_keys import ApiKey, Scope
from postroom.api.dependencies import Services, WithServices
from postroom.api.errors import Refusal
from postroom.errors import UnknownJob
from postroom.jobs.job import Delivery

bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key that `postroom keys create` printed.")


def allowed(services: Services, secret: str | None, scope: Scope) -> ApiKey:
    """The key with this secret. Refusal if there is none, if it lacks the scope, or if it is used too often."""
    used = services.keys.use(secret) if secret else None
    if used is None:
        message = "a key is needed: Authorization: Bearer pr_…" if secret is None else "this key is unknown or revoked"
        raise Refusal(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="postroom"'})
    key, wait_s = used
    if wait_s:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        message = f"this key may make {key.rate[0]} requests in {key.rate[1]:g} s"
        raise Refusal(429, "rate_limited", message, headers=headers)
    if scope not in key.scopes:
        raise Refusal(403, "forbidden", f"this key lacks the scope {scope}", {"scopes": list(key.scopes)})
    return key


def _may(scope: Scope) -> Callable[..., ApiKey]:
    def check(
        services: WithServices, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)] = None
    ) -> ApiKey:
        return allowed(services, credentials.credentials if credentials else None, scope)

    return check


MaySend = Annotated[ApiKey, Security(_may(Scope.SEND))]
MayRead = Annotated[ApiKey, Security(_may(Scope.READ))]
MayOperate = Annotated[ApiKey, Security(_may(Scope.OPERATE))]


def own(key: ApiKey, delivery: Delivery) -> Delivery:
    """The same delivery, if the key may see it. Otherwise UnknownJob, as if there were no such job."""
    if not key.may_use(delivery.sender):
        raise UnknownJob(delivery.id)
    return delivery


def person(key: ApiKey) -> str:
    """The name of this key for the audit."""
    return f"api:{key.name}"
