"""A local stand-in for Entra and Graph, with an inbox to look at. It imports nothing else of Postroom."""

from postroom.sandbox.options import AppRegistration, FederatedCredential, SandboxAddress, SandboxOptions
from postroom.sandbox.server import running, serve

__all__ = ["AppRegistration", "FederatedCredential", "SandboxAddress", "SandboxOptions", "running", "serve"]
