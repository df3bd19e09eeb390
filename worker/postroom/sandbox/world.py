"""The state of one sandbox, which all its endpoints and pages share."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox.control.faults import STAGES, FaultRule, Faults
from postroom.sandbox.control.request_log import Bell, RequestLog
from postroom.sandbox.directory.objects import Directory
from postroom.sandbox.directory.sign_in import SignIn
from postroom.sandbox.entra.tenant import Tenant
from postroom.sandbox.entra.tokens import TokenMint
from postroom.sandbox.exchange.mailboxes import Exchange
from postroom.sandbox.graph.uploads import Uploads
from postroom.sandbox.options import SandboxAddress, SandboxOptions


class World:
    """The tenant, mailboxes, requests and faults of one sandbox."""

    def __init__(self, options: SandboxOptions, address: SandboxAddress, signing_key: rsa.RSAPrivateKey) -> None:
        self.options = options
        self.address = address
        self.mint = TokenMint(signing_key, options.tenant_id, address.graph_url)
        self.tenant = Tenant(options, address.graph_url, self.mint)
        self.exchange = Exchange(options)
        self.directory = Directory(options, self.exchange.has_mailbox)
        self.tenant.registered = self.directory.registration
        self.sign_in = SignIn(options, address.graph_url, self.mint, self.directory)
        self.sign_in.is_public = self.tenant.is_public
        self.uploads = Uploads(self.exchange, address.graph_url, options.upload_session_lifetime)
        self.vault = dict(options.vault)
        self.bell = Bell()
        self.log = RequestLog(options.keep_requests, self.bell)
        self.closing = asyncio.Event()
        self.faults = self._faults_at_start()

    async def pause(self, seconds: float) -> None:
        """Waits for so long, or until the sandbox closes."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), seconds)

    def reset(self) -> None:
        """Sets everything back to how it was at the start."""
        self.exchange.reset()
        self.uploads.reset()
        self.log.reset()
        self.tenant.restore()
        self.directory.reset()
        self.vault = dict(self.options.vault)
        self.sign_in.reset()
        self.faults = self._faults_at_start()

    def stats(self) -> dict[str, Any]:
        """The counters of `Exchange.stats`, and how many requests there were of each stage."""
        requests = {stage: self.log.total[stage] for stage in STAGES}
        return {**self.exchange.stats(), "requests": requests, "token_requests": requests["token"]}

    def _faults_at_start(self) -> Faults:
        faults = Faults(self.options.seed)
        for rule in self.options.faults:
            faults.add(FaultRule.from_json(rule))
        return faults
