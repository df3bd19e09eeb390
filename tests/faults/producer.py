"""Takes a batch in as a program of an operator's would.

`python -m tests.faults.producer BATCH FIRST COUNT MAILBOXES [NAME]`; the mailboxes are NAME0, NAME1, … (m0, m1, …).
Prints each receipt's id as soon as it has it. A second run with the same arguments goes on where the first one died.
"""

import sys
from collections.abc import Iterator

from postroom import Client, Mail

from .halting import obey


def mails(batch: str, first: int, count: int, mailboxes: int, name: str) -> Iterator[Mail]:
    """The batch's mails, the same in each run."""
    for n in range(first, first + count):
        yield Mail.model_validate(
            {
                "from": f"{name}{n % mailboxes}@contoso.com",
                "to": [f"u{n}@contoso.com"],
                "subject": f"{batch} {n}",
                "text": "Hi",
            }
        )


if __name__ == "__main__":
    obey()
    batch, first, count, mailboxes = sys.argv[1], *(int(argument) for argument in sys.argv[2:5])
    name = sys.argv[5] if len(sys.argv) > 5 else "m"
    Client.from_env().send_many(
        mails(batch, first, count, mailboxes, name),
        batch,
        on_receipt=lambda _, receipt: print(receipt.id, flush=True),
    )
