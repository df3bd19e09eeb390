"""The HTTP door: takes in mail and events, shows their status, and lets people operate. `serve` runs it."""

from postroom.api.app import create_app
from postroom.api.dependencies import Services, open_services
from postroom.api.server import ApiOptions, listen, serve, url_of

__all__ = ["ApiOptions", "Services", "create_app", "listen", "open_services", "serve", "url_of"]
