"""The sandbox as one ASGI application. Graph and Entra use no framework, pages and control interface use Starlette."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from postroom.sandbox.azure.endpoints import AzureEndpoints
from postroom.sandbox.connection import Call, Receive, Scope, Send
from postroom.sandbox.control.routes import control_routes
from postroom.sandbox.directory.endpoints import DirectoryEndpoints
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
        self._directory = DirectoryEndpoints(world)
        self._azure = AzureEndpoints(world)
        own = (
            world.address.url,
            f"//{world.options.host}",
            "//localhost",
            f"//vault.{urlsplit(world.address.url).hostname}",
        )
        self._names = {host for host in map(_host_in, own) if host}
        self._pages = Starlette(routes=[*control_routes(world), *page_routes(world)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        path: str = scope["path"]
        if not self._is_called_by_its_name(scope):
            why = f"this sandbox is {' or '.join(sorted(self._names))}, or an IP address; --public-host gives it a name"
            await PlainTextResponse(why, 421)(scope, receive, send)
        elif self._directory.serves(path):
            await self._directory(Call(scope, receive, send))
        elif self._azure.serves(path):
            await self._azure(Call(scope, receive, send))
        elif path.startswith(("/v1.0/", UPLOADS)):
            await self._graph(Call(scope, receive, send))
        elif Entra.serves(path):
            await self._entra(Call(scope, receive, send))
        elif _from_elsewhere(scope):
            await PlainTextResponse("another site's page must not turn the sandbox's switches", 403)(
                scope, receive, send
            )
        else:
            await self._pages(scope, receive, send)

    def _is_called_by_its_name(self, scope: Scope) -> bool:
        """Whether its caller meant the sandbox: a page of another site may have its own name lead to this address."""
        host = _host_in(f"//{_header(scope, b'host')}")
        return host in self._names or _is_address(host)


def build_app(options: SandboxOptions, address: SandboxAddress, signing_key: rsa.RSAPrivateKey) -> App:
    """A sandbox at this address, with nothing in it yet."""
    return App(World(options, address, signing_key))


def _from_elsewhere(scope: Scope) -> bool:
    """Whether a page of another site makes this call. Browsers say so; other clients say nothing."""
    origin = _header(scope, b"origin")
    if origin and origin.partition("://")[2] != _header(scope, b"host"):
        return True
    site = _header(scope, b"sec-fetch-site")
    return scope["method"] not in ("GET", "HEAD") and site not in ("", "same-origin", "none")


def _header(scope: Scope, wanted: bytes) -> str:
    return ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
