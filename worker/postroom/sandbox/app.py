"""The sandbox as one ASGI application. Graph and Entra use no framework, pages and control interface use Starlette."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from postroom.sandbox.connection import Call, Receive, Scope, Send
from postroom.sandbox.control.routes import control_routes
from postroom.sandbox.entra.endpoints import Entra
from postroom.sandbox.graph.endpoints import Graph
from postroom.sandbox.graph.uploads import UPLOADS
from postroom.sandbox.options import SandboxAddress, SandboxOptions
from postroom.sandbox.pages.routes import page_routes
from postroom.sandbox.world import World


class App:
    """Passes each call to the service that its path belongs to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._graph = Graph(world)
        self._entra = Entra(world)
        self._pages = Starlette(routes=[*control_routes(world), *page_routes(world)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        path: str = scope["path"]
        if path.startswith(("/v1.0/", UPLOADS)):
            await self._graph(Call(scope, receive, send))
        elif Entra.serves(path):
            await self._entra(Call(scope, receive, send))
        elif _from_elsewhere(scope):
            await PlainTextResponse("another site's page must not turn the sandbox's switches", 403)(
                scope, receive, send
            )
        else:
            await self._pages(scope, receive, send)


def build_app(options: SandboxOptions, address: SandboxAddress, signing_key: rsa.RSAPrivateKey) -> App:
    """A sandbox at this address, with nothing in it yet."""
    return App(World(options, address, signing_key))


def _from_elsewhere(scope: Scope) -> bool:
    sites = [value for name, value in scope["headers"] if name == b"sec-fetch-site"]
    return scope["method"] not in ("GET", "HEAD") and sites not in ([], [b"same-origin"], [b"none"])
