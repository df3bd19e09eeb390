"""The errors that Postroom raises for its callers.

PostroomError
├── InvalidMail       the mail cannot exist; `faults` names every reason
├── KeyConflict       the idempotency key belongs to another mail
├── UnknownJob        no such job (or its record was removed)
├── TooLate           the job is being sent, or has ended
├── Unavailable       Redis cannot be reached or refuses writes; nothing was taken in
├── MailDead          the job ended as a dead letter        (raised by `AsyncResult.get`)
├── MailExpired       the job expired before it was sent    (raised by `AsyncResult.get`)
├── TemplateFault     a template is missing (TemplateMissing), broken, or lacks a variable
└── RendererBusy      a template could not be rendered in time, because of others; try it again

ConfigError           outside the tree: a producer's `except PostroomError` must not hide a wrong setting
"""

from collections.abc import Sequence


class PostroomError(Exception):
    """The base of every error that a caller may want to catch."""


class InvalidMail(PostroomError):
    """A mail that Graph would certainly refuse. `faults` lists each fault as "field: what is wrong"."""

    def __init__(self, faults: Sequence[str] | str) -> None:
        given = (faults,) if isinstance(faults, str) else faults
        # JSON may have half a surrogate pair even in a name. No answer, log or terminal can.
        self.faults = tuple(fault.encode(errors="replace").decode() for fault in given)
        super().__init__("; ".join(self.faults))


class KeyConflict(PostroomError):
    """The idempotency key is known and belongs to a mail with other content. `job_id` is the first one's job."""

    def __init__(self, key: str, job_id: str) -> None:
        self.key, self.job_id = key, job_id
        super().__init__(f"this key already belongs to another mail (job {job_id}); use a new key for a new mail")


class UnknownJob(PostroomError):
    """There is no job with this id, or its record is past its retention."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job {job_id!r}: the id is wrong, or its record is past its retention")


class TooLate(PostroomError):
    """The job can no longer be cancelled: it is being sent, or has ended."""

    def __init__(self, job_id: str, status: str) -> None:
        self.job_id, self.status = job_id, status
        super().__init__(f"job {job_id} can no longer be cancelled: it is {status}")


class Unavailable(PostroomError):
    """Redis did not answer, or refused the write. Nothing was confirmed; the same call may be repeated."""


class MailDead(PostroomError):
    """The mail ended as a dead letter; the argument has reason, HTTP status and Graph code."""


class MailExpired(PostroomError):
    """The mail's `expires_at` passed before it could be sent."""


class TemplateFault(PostroomError):
    """A template that cannot be rendered: missing, broken, or lacking a variable. A retry does not help."""


class TemplateMissing(TemplateFault):
    """There is no template of this name here; another worker may have it."""


class RendererBusy(PostroomError):
    """A template could not be rendered in time, because of others or for want of processes. A retry may mend it."""


class ConfigError(Exception):
    """Wrong settings. `faults` lists all of them by name."""

    def __init__(self, faults: Sequence[str] | str) -> None:
        given = (faults,) if isinstance(faults, str) else faults
        # JSON may have half a surrogate pair even in a name. No answer, log or terminal can.
        self.faults = tuple(fault.encode(errors="replace").decode() for fault in given)
        super().__init__("\n".join(self.faults))
