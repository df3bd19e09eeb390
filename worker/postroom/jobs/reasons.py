"""Every reason that a job, an attempt, a pause or a hold may have: what it means, and what to do.

This is the only list of them: the tables in docs/operations.md, the hints of the command line and labels come from it,
and a test compares the code in Python and Lua with it. Unknown codes of Graph and Entra become reasons named after the
code (`ErrorSomethingElse` is `something_else`, an answer without a code `http_418`); `reason_of` knows only the latter.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What follows a reason, and in which table of docs/operations.md it is."""

    WAITING = "waiting"  # a deferred job has it, and continues automatically
    REFUSED = "refused"  # a fault of the mail itself: dead at once
    HELD = "held"  # a fault of the mailbox or the app: mail waits until it is repaired
    PASSING = "passing"  # a temporary fault: the mail is tried again
    UNKNOWN = "unknown"  # nobody knows whether it was sent
    ENDED = "ended"  # how a job ended although no attempt failed


class Reason(NamedTuple):
    """`meaning` and `next_step` are texts in Markdown; `next_step` may be empty."""

    name: str
    kind: Kind
    meaning: str
    next_step: str = ""


def reason_of(name: str) -> Reason | None:
    """The entry of this reason; None for a reason that is named after a code of Graph or Entra."""
    return REASONS.get("http_…" if re.fullmatch(r"http_\d{3}", name) else name)


def plain_text(markdown: str) -> str:
    """A meaning or next step for a terminal: without Markdown, a link as its text."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


# By kind: name | meaning | next step. An indented line continues the line before it.
_TABLE = """
[waiting]
scheduled | its `scheduled_at` is in the future | nothing
throttled | Graph asked for a pause (429 or an equivalent answer); the whole mailbox pauses as long as Graph asked |
  nothing. If it happens often: does something else send from this mailbox?
backoff | a temporary fault; the last attempt shows it | nothing, unless it continues: see below
held | the configuration of the mailbox or the app is wrong; the last attempt shows the fault. All mail of the mailbox
  or app waits for the repair: [holds](#holds) | repair the fault, see below
newer_version | a newer version took it in, and the running workers are too old for it | start workers of that version
unknown | nobody knows whether it was sent. Postroom looks for it in its mailbox, then `POSTROOM_ON_UNKNOWN` decides |
  nothing. If it is dead: look into Sent Items for its id (header `x-postroom-job`), then requeue or discard it

[refused]
template | the template is missing, broken, lacks a variable, or takes too much time or memory; the detail says which |
  fix the template, or the producer's variables
invalid | a Celery task has an invalid mail; the detail names each fault | fix the producer
key_conflict | a Celery task has the key of another mail | use a different key for each mail
invalid_recipients | Exchange accepts none of these addresses | correct them
send_as_denied | the app may not send with this From | use a sender that is the mailbox itself or one of its aliases
too_large | the bodies do not fit into a request, or (with `POSTROOM_DELIVERY=send`) the attachments do not; or the
  mailbox accepts no mail of this size | use smaller files, or a link
attachment_missing | a file of the mail, or its MIME source, is no longer in Redis or in `POSTROOM_ATTACHMENTS`, or was
  changed; the mail is never sent without it | send it again with a new key; find out who deletes or changes files
too_many_recipients | more recipients than the mailbox may have in a day by its present settings | send several mails
invalid_header | Graph refuses a header of the message; the detail is Graph's message | fix the headers, or report it:
  this may be a bug in Postroom
invalid_mime | Graph refuses the MIME source; the detail is Graph's message | fix the source, or report it
bad_request | Graph refuses the request; the detail is Graph's message | report it with the request-id
damaged | somebody changed the job's record or its content in Redis | find out who; send it again

[held]
needs_mail_readwrite | drafts need the application permission Mail.ReadWrite, which the app does not have for this
  mailbox. Without `POSTROOM_DELIVERY=draft`, only mail with large attachments is sent by a draft, and only this mail
  waits; for an hour after each try, further such mail is refused when it is taken in | grant it, or do not use
  `POSTROOM_DELIVERY=draft`
access_denied | the app may not send from this mailbox | check its management scope or group in Exchange. After a
  change, wait up to 2 hours
mailbox_not_found | no such mailbox, or one without Exchange Online | check the sender's address and its licence
account_disabled | the mailbox's account is blocked | enable it, or use another sender
mailbox_logon_failed | the mailbox's account is blocked | enable it, or use another sender
mailbox_full | no space for the copy in Sent Items | delete something in the mailbox
invalid_client_secret | the secret is wrong; often its ID was copied instead of its value | correct
  `POSTROOM_CLIENT_SECRET`, then restart the workers (a secret in a file or a vault is read again by itself)
expired_client_secret | the secret has expired | set a new secret, then restart the workers (a secret in a file or a
  vault is read again by itself)
invalid_certificate | the certificate is not registered for the app, or has expired | register it; a replaced file is
  read automatically
invalid_credential | the credential's file or key vault cannot be used; the detail says why | check this file or vault
missing_credential | Entra got no credential | check `POSTROOM_CREDENTIAL` and the settings for it
federation_mismatch | issuer, subject or audience of the federated token are not the registered ones | check the
  federated credential in Entra
sign_in_needed | nobody has signed in for the app, or the sign-in has ended: the password was changed, the sign-in was
  revoked or not used for 90 days, or Entra wants more of the person; the detail says why | run `postroom sign-in`
clock_skew | the worker's clock is wrong, or the federated token is out of date | check the time synchronisation
app_not_found | no such app in this tenant | check `POSTROOM_CLIENT_ID`, `POSTROOM_TENANT_ID`
tenant_not_found | no such tenant in this cloud | check `POSTROOM_TENANT_ID`, `POSTROOM_CLOUD`
wrong_cloud | the tenant is in another cloud | check `POSTROOM_CLOUD`
app_disabled | an administrator disabled the app | ask the administrator
blocked_by_conditional_access | a Conditional Access policy blocks the app | ask an administrator
invalid_scope | Graph's root URL is wrong for this cloud | check `POSTROOM_GRAPH_URL`, `POSTROOM_CLOUD`
resource_not_found | Graph's root URL is wrong for this cloud | check `POSTROOM_GRAPH_URL`, `POSTROOM_CLOUD`
invalid_app_settings | no token request can be made from the app's settings; the detail says why | check
  `POSTROOM_AUTHORITY_URL`, `POSTROOM_TENANT_ID`, `POSTROOM_CLIENT_ID`
token_rejected | Graph rejects the token, also a second, new one | check consent and roles of the app; see the detail
token_refused | Entra gives no token | check consent and roles of the app; see the detail
redirected | a system between Postroom and Graph answered | check the proxy and the root URLs
proxy_refused | the proxy refuses the connection | check the proxy's login and rules

[passing]
no_connection | Graph could not be reached; the app pauses, up to a minute at a time | check network, DNS, proxy,
  `POSTROOM_CA_BUNDLE`
no_token_yet | Entra has not answered yet; the app pauses | check network, DNS, proxy, `POSTROOM_CA_BUNDLE`
entra_unavailable | Entra has a temporary fault, or could not be reached | check the network and Microsoft's service
  health
mailbox_moving | the mailbox is being moved; this uses up an attempt | nothing; see Microsoft's service health
failing | the reason of a pause, not of an attempt: after three faults in a row, only one mail at a time is tried, as a
  probe | see the last attempts
templates_unreadable | the templates cannot be read from the disk | check `POSTROOM_TEMPLATES` and its permissions
renderer_busy | other templates took so long, or no process could be started, that this one was not rendered | see dead
  letters with the reason `template`, and the host's processes and memory
template_not_here | this worker does not have the template, and another worker has it: the mail is left to that one |
  use the same templates for all workers
attachments_unreadable | the folder with the attachments cannot be read | check `POSTROOM_ATTACHMENTS`, its mount and
  permissions; it must be the same for all workers
app_not_configured_here | this worker does not know the app of this mailbox | use the same settings for all workers
redis_unavailable | Redis was down for so long that nothing was posted | check Redis
stalled | this worker did not run for so long that nothing was posted | check the host's load
worker_stopping | a worker that was asked to stop left an upload to another one | nothing
session_lost | the upload session ended before the file was complete: the mail's draft is removed and made again | see
  Microsoft's service health
attachment_unclear | nobody knows which attachments the mail's draft has: it is removed and made again | see
  Microsoft's service health
internal_error | a bug in Postroom; after the mark it is an unknown outcome | see the log event `round.failed`; report
  it
draft_not_removed | a draft that must be removed was not removed; the detail is Graph's message | check the app's
  permissions, and policies that keep messages
not_201 | Graph's answer to the request for a draft was not a draft | check proxies between Postroom and Graph
look_up_failed | Graph did not answer when Postroom looked for the mail; Postroom looks again | nothing
http_… | an answer without a Graph code, such as `http_418` | check proxies between Postroom and Graph

[unknown]
no_answer | the request was written, and no complete answer came
timeout | Graph or a system before it stopped waiting
bad_gateway | a gateway answered 502
gateway_timeout | a gateway answered 504
service_unavailable | Graph answered 503 without asking for a pause
server_error | Graph answered 500
server_busy | the mailbox's server lacks resources; the mailbox pauses as long as the server asks
mailbox_failover | the mailbox moved to another server at this moment
conflict | somebody changed the message at this moment
not_202 | an answer that Microsoft does not document
draft_gone | the draft that was to be sent is no longer there
worker_lost | the worker was killed while it was posting

[ended]
expired | it was not sent before its `expires_at` | send it again, if it is still wanted
cancelled | somebody cancelled it
discarded | somebody discarded this dead letter
replaced | somebody sent it with changes, as a new job | see the new job
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
