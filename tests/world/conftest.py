"""An SMTP server of ours, as tests/smtp has it, for programs of others."""

from tests.smtp.conftest import authority, open_server, server

__all__ = ["authority", "open_server", "server"]
