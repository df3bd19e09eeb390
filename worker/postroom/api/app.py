"""The application: its routes, its errors, and its description (OpenAPI 3.1 at /openapi.json)."""

import json
import threading
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Response

from postroom.api import errors
from postroom.api.dependencies import Services
from postroom.api.middleware import Middleware
from postroom.api.routes import batches, dead_letters, emails, events, health, lanes, outlook

ABOUT = "Takes mail and events in, and tells what became of them. Each request needs a key: Authorization: Bearer pr_…"


def create_app(services: Services) -> FastAPI:
    """The HTTP door as an ASGI application."""
    app = _App(
        title="Postroom",
        version=version("postroom"),
        description=ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.services = services
    for module in (emails, batches, dead_letters, lanes, events, outlook, health):
        app.include_router(module.router)
    errors.install(app)
    app.add_middleware(Middleware, emit=services.emit)
    app.add_api_route("/openapi.json", app.description_route, include_in_schema=False)
    return app


class _App(FastAPI):
    """FastAPI, but what it says of itself is made once: that takes as long as many mails."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._making = threading.Lock()
        self._schema: dict[str, Any] | None = None
        self._text = b""

    def openapi(self) -> dict[str, Any]:
        """The description, with the bodies that routes read by themselves."""
        with self._making:
            if self._schema is None:
                schema = super().openapi()
                schemas = schema["components"]["schemas"]
                schemas |= {
                    **dict(emails.schemas()),
                    **batches.schemas(),
                    **dead_letters.schemas(),
                    **outlook.schemas(),
                }
                inner = errors.Error.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= {**inner.pop("$defs"), "Error": inner}
                self._text, self._schema = json.dumps(schema, separators=(",", ":")).encode(), schema
            return self._schema

    def description_route(self) -> Response:
        """Describes this API (OpenAPI)."""
        self.openapi()
        return Response(self._text, media_type="application/json")
