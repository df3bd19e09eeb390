"""How a test or a person sees what happened in a sandbox and makes it fail: log, faults, and a client for both."""

from postroom.sandbox.control.client import InboxAttachment, InboxMessage, RequestRecord, Sandbox

__all__ = ["InboxAttachment", "InboxMessage", "RequestRecord", "Sandbox"]
