"""The lane, app and mailbox of each sender, and the limits that the workers publish for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from postroom.jobs.lane_limits import LaneLimits, PublishedSettings
from postroom.jobs.retry import OnUnknown, Policy
from postroom.mail.address import normal_form
from postroom.mail.message import DeliveryMode
from postroom.settings.model import SenderSettings, Settings

_NO_SENDER = SenderSettings()


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """The lane, app and mailbox of each sender."""

    settings: Settings

    @cached_property
    def _senders(self) -> Mapping[str, list[SenderSettings]]:
        """The settings of senders, by lane."""
        by_lane: dict[str, list[SenderSettings]] = {}
        for address, sender in self.settings.senders.items():
            by_lane.setdefault(self.name(address, sender), []).append(sender)
        return by_lane

    def limits(self, sender: SenderSettings) -> LaneLimits:
        given = self.settings
        return LaneLimits(
            app=sender.app,
            parallel=sender.parallel or given.parallel,
            daily_recipients=sender.daily_recipients or given.daily_recipients,
            rates=given.rate if sender.rate is None else sender.rate,
            by_draft=(sender.delivery or given.delivery) is DeliveryMode.DRAFT,
        )

    def name(self, address: str, sender: SenderSettings) -> str:
        """The name of the lane: its mailbox, and its app if that is not the default one."""
        mailbox = normal_form(str(sender.mailbox or address))
        return mailbox if sender.app == "default" else f"{mailbox}#{sender.app}"

    def rules(self, *, results_here: bool) -> PublishedSettings:
        limits: dict[str, LaneLimits] = {}
        aliases: dict[str, str] = {}
        mailboxes: dict[str, str] = {}
        for address, sender in self.settings.senders.items():
            lane = self.name(address, sender)
            limits[lane] = self.limits(sender)
            aliases |= {normal_form(str(alias)): lane for alias in (address, *sender.aliases)}
            if sender.mailbox:
                mailboxes[normal_form(str(sender.mailbox))] = lane
        return PublishedSettings(
            defaults=self.limits(SenderSettings()),
            lanes=limits,
            # What is its own lane needs no alias, but where a rule for all of its domain would count instead.
            aliases={
                alias: lane
                for alias, lane in (mailboxes | aliases).items()
                if (alias != lane and alias in aliases) or f"*@{alias.rpartition('@')[2]}" in aliases
            },
            retention_accepted_s=self.settings.retention_accepted,
            retention_dead_s=self.settings.retention_dead,
            results_here=results_here,
            hold_probe_s=self.settings.hold_probe,
            hold_patience_s=self.settings.hold_patience,
            first_look_s=policy(self.settings).first_look_s,
            max_message=self.settings.max_message,
        )

    def mailbox(self, lane: str) -> str:
        return lane.partition("#")[0]

    def addresses(self, lane: str) -> frozenset[str]:
        """The mailbox's own address and its aliases. Senders that only use the mailbox are not among them."""
        aliases = (alias for sender in self._senders.get(lane, ()) for alias in sender.aliases)
        return frozenset({self.mailbox(lane), *(normal_form(str(alias)) for alias in aliases)})

    def on_unknown(self, lane: str) -> OnUnknown:
        return self._sender(lane).on_unknown or self.settings.on_unknown

    def delivery(self, lane: str) -> DeliveryMode:
        return self._sender(lane).delivery or self.settings.delivery

    def _sender(self, lane: str) -> SenderSettings:
        return next(iter(self._senders.get(lane, ())), _NO_SENDER)


def policy(settings: Settings) -> Policy:
    return Policy(max_attempts=settings.max_attempts, backoff_s=settings.backoff, look_ups_s=settings.unknown_lookups)
