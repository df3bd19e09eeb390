"""The application: its routes, its errors, and its description (OpenAPI 3.1 at /openapi.json)."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from postroom.api import errors
from postroom.api.dependencies import Services
from postroom.api.middleware import Middleware
from postroom.api.routes import batches, dead_letters, emails, events, health, lanes

ABOUT = "Takes mail and events in, and tells what became of them. Each request needs a key: Authorization: Bearer pr_…"


def create_app(services: Services) -> FastAPI:
    """The HTTP door as an ASGI application."""
    app = FastAPI(
        title="Postroom",
        version=version("postroom"),
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.services = services
    for module in (emails, batches, dead_letters, lanes, events, health):
        app.include_router(module.router)
    errors.install(app)
    app.add_middleware(Middleware, emit=services.emit)
    app.openapi = _with_bodies(app)  # type: ignore[method-assign]
    return app


def _with_bodies(app: FastAPI) -> Any:
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schemas = schema["components"]["schemas"]
        schemas |= {**dict(emails.schemas()), **batches.schemas(), **dead_letters.schemas()}
        inner = errors.Error.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= {**inner.pop("$defs"), "Error": inner}
        return schema

    return openapi
