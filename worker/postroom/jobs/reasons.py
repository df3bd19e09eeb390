"""Every reason that a job, an attempt, a pause or a hold may have: what it means, and what to do.

The one list of them: the table in docs/operations.md, the hints of the command line and labels come from it, and a test
holds the code in Python and Lua against it. Codes of Graph and Entra that stand in no table of ours become reasons in
their own words (`ErrorSomethingElse` is `something_else`, an answer without a code `http_418`); `reason_of` knows those
too.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What follows: which of the tables in docs/operations.md a reason stands in."""

    WAITING = "waiting"  # a deferred job has it, and goes on by itself
    REFUSED = "refused"  # of the mail itself: dead at once
    HELD = "held"  # of the mailbox or the app: mail waits until it is repaired
    PASSING = "passing"  # a fault that passes: it is tried again
    UNKNOWN = "unknown"  # nobody knows whether it was sent
    ENDED = "ended"  # how a job ended without an attempt's fault


class Reason(NamedTuple):
    """`meaning` and `next_step` are texts in Markdown; `next_step` is empty where there is nothing to say."""

    name: str
    kind: Kind
    meaning: str
    next_step: str = ""


def reason_of(name: str) -> Reason | None:
    """What is known of this reason; None of one that Graph or Entra brought in their own words."""
    return REASONS.get("http_…" if re.fullmatch(r"http_\d{3}", name) else name)


def plain_text(markdown: str) -> str:
    """A meaning or next step as a terminal shows it: without marks, a link as its text."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


# By kind: name | meaning | next step. A line that is indented goes on with the one before it.
_TABLE = """
[waiting]
scheduled | its `scheduled_at` has not come | nothing
throttled | Graph asked for a pause (429 and its disguises); the whole mailbox pauses as long as it asked | nothing.
  If it is the rule: does something else send from this mailbox?
backoff | a fault that passes; the last attempt names it | nothing, unless it goes on: see below
held | the configuration of the mailbox or the app is at fault, as the last attempt names it. All its mail waits for
  the repair: [holds](#holds) | repair what is named below
newer_version | a newer version took it in, and needs more than the workers that are left | start workers of that
  version
unknown | nobody can know whether it was sent. It is looked for in its mailbox, then `POSTROOM_ON_UNKNOWN` decides |
  nothing. If it is dead: look into Sent Items for its id (header `x-postroom-job`), then requeue or discard it

[refused]
template | the template is missing, broken, or lacks a variable; the detail names file and line | mend the template,
  or what the producer gives
invalid | what came as a Celery task is no mail; the detail names each fault | mend the producer
key_conflict | what came as a Celery task has the key of another mail | keys that name one mail each
invalid_recipients | Exchange takes none of these addresses | correct them
send_as_denied | the app may not send with this From | a sender that is the mailbox itself or one of its aliases
too_large | bodies do not fit into a request, or (with `POSTROOM_DELIVERY=send`) attachments do not; or the mailbox
  takes no mail of this size | smaller files, or a link
attachment_missing | a file of the mail, or its MIME source, is no longer in Redis or in `POSTROOM_ATTACHMENTS`, or is
  not what it was; the mail is never sent without it | send it again with a new key; find out who deletes there
too_many_recipients | more recipients than the mailbox may reach in a day by its present settings | several mails
invalid_header | Graph does not take a header of the message; the detail is Graph's own | mend the headers, or report
  it: this may be a fault of Postroom's
invalid_mime | Graph does not take the MIME source; the detail is Graph's own | mend the source, or report it
bad_request | Graph does not take the request; the detail is Graph's own | report it with the request-id
damaged | somebody wrote into the job's record or its content in Redis | find out who; send it again

[held]
needs_mail_readwrite | drafts need the application permission Mail.ReadWrite, which the app does not have for this
  mailbox. Without `POSTROOM_DELIVERY=draft` only mail with large attachments goes by a draft, and only that waits;
  for an hour after each try, further ones are refused when they are taken in | grant it, or do without
  `POSTROOM_DELIVERY=draft`
access_denied | the app may not send from this mailbox | its management scope or group in Exchange. After a change:
  wait, up to 2 hours
mailbox_not_found | no such mailbox, or one without Exchange Online | the sender's address; a licence
account_disabled | the mailbox's account is blocked | enable it, or take another sender
mailbox_logon_failed | the mailbox's account is blocked | enable it, or take another sender
mailbox_full | no room for the copy in Sent Items | make room
invalid_client_secret | the secret is wrong; often its ID was copied instead of its value | `POSTROOM_CLIENT_SECRET`,
  then restart the workers
expired_client_secret | the secret has expired | a new secret, then restart the workers
invalid_certificate | the certificate is not the app's, or has expired | register it; a replaced file is read by
  itself
invalid_credential | a credential's file cannot be used; the detail says why | that file
missing_credential | Entra saw no credential | `POSTROOM_CREDENTIAL` and what belongs to it
federation_mismatch | issuer, subject or audience of the federated token are not those registered | the federated
  credential in Entra
clock_skew | the worker's clock is wrong, or the federated token is out of date | time synchronisation
app_not_found | no such app in this tenant | `POSTROOM_CLIENT_ID`, `POSTROOM_TENANT_ID`
tenant_not_found | no such tenant in this cloud | `POSTROOM_TENANT_ID`, `POSTROOM_CLOUD`
wrong_cloud | the tenant is in another cloud | `POSTROOM_CLOUD`
app_disabled | an administrator disabled the app | talk to them
blocked_by_conditional_access | a policy of Conditional Access blocks the app | talk to an administrator
invalid_scope | Graph's root is wrong for this cloud | `POSTROOM_GRAPH_URL`, `POSTROOM_CLOUD`
resource_not_found | Graph's root is wrong for this cloud | `POSTROOM_GRAPH_URL`, `POSTROOM_CLOUD`
invalid_app_settings | the app's settings make no request for a token; the detail says why | `POSTROOM_AUTHORITY_URL`,
  `POSTROOM_TENANT_ID`, `POSTROOM_CLIENT_ID`
token_rejected | Graph does not take the token, though it was asked for twice | consent and roles of the app; the
  detail
token_refused | Entra gives no token | consent and roles of the app; the detail
redirected | something between answers, not Graph | the proxy; the roots
proxy_refused | the proxy refuses the connection | the proxy's login and rules

[passing]
no_connection | Graph could not be reached; the app pauses, up to a minute at a time | network, DNS, proxy,
  `POSTROOM_CA_BUNDLE`
no_token_yet | Entra has not answered yet; the app pauses | network, DNS, proxy, `POSTROOM_CA_BUNDLE`
entra_unavailable | Entra stumbles, or could not be reached | network; Microsoft's service health
mailbox_moving | the mailbox is being moved; spends an attempt | nothing; Microsoft's service health
failing | the reason of a pause, not of an attempt: three faults in a row, so one mail at a time goes on as a probe |
  the last attempts
templates_unreadable | the disk with the templates fails | `POSTROOM_TEMPLATES`, its permissions
attachments_unreadable | the folder with the attachments is away | `POSTROOM_ATTACHMENTS`, its mount and permissions,
  the same for all workers
app_not_configured_here | this worker does not know the app of this mailbox | the same settings for all workers
redis_unavailable | Redis was away for so long that nothing was posted | Redis
stalled | this worker stood still for so long that nothing was posted | the host's load
worker_stopping | a worker that was told to stop left an upload to another one | nothing
session_lost | the upload session is over before the file was whole: the mail's draft is removed and made anew |
  Microsoft's service health
attachment_unclear | nobody can know what the mail's draft has of its attachments: it is removed and made anew |
  Microsoft's service health
internal_error | a fault of Postroom's; after the mark it is an unknown outcome | the log event `round.failed`; report
  it
draft_not_removed | a draft that must not stay was not removed; the detail is Graph's | the app's permissions, a
  policy that keeps messages
not_201 | Graph's answer to the making of a draft was no draft | what stands between
look_up_failed | Graph was away when the mail was looked for; it is looked for again | nothing
http_… | an answer without a code of Graph's, such as `http_418` | what stands between

[unknown]
no_answer | the request was written, and no complete answer came
timeout | Graph or something between gave up waiting
bad_gateway | a gateway answered 502
gateway_timeout | a gateway answered 504
service_unavailable | Graph answered 503 without asking for a pause
server_error | Graph answered 500
server_busy | the mailbox's server lacks resources; the mailbox pauses as long as it asks
mailbox_failover | the mailbox moved to another server just then
conflict | somebody changed the message just then
not_202 | an answer that no page of Microsoft's shows
draft_gone | the draft that was to be sent is no longer there
worker_lost | the worker was killed while it was posting

[ended]
expired | it was not sent before its `expires_at` | send it again, if it is still wanted
cancelled | somebody cancelled it
discarded | somebody let go of this dead letter
replaced | somebody sent it with changes, as a new job | the new job
poison | five workers in a row died before they could post it | look into their logs, then requeue it
"""


def _parse(table: str) -> Iterator[Reason]:
    kind = Kind.WAITING
    for line in table.replace("\n  ", " ").split("\n"):
        if line.startswith("["):
            kind = Kind(line.strip("[]"))
        elif line:
            name, meaning, *next_step = line.split(" | ")
            yield Reason(name, kind, meaning, *next_step)


REASONS = {reason.name: reason for reason in _parse(_TABLE)}
