"""Takes a batch in as a program of an operator's would: `python -m tests.faults.producer BATCH FIRST COUNT MAILBOXES`.

Prints each receipt's id as soon as it has it. A second run with the same arguments goes on where the first one died.
"""

import sys
from collections.abc import Iterator

from postroom import Client, Mail

from .halting import obey


def mails(batch: str, first: int, count: int, mailboxes: int) -> Iterator[Mail]:
    """The batch's mails, the same in each run."""
    for n in range(first, first + count):
        yield Mail.model_validate(
            {
                "from": f"m{n % mailboxes}@contoso.com",
                "to": [f"u{n}@contoso.com"],
                "subject": f"{batch} {n}",
                "text": "Hi",
            }
        )


if __name__ == "__main__":
    obey()
    batch, first, count, mailboxes = sys.argv[1], *(int(argument) for argument in sys.argv[2:5])
    Client.from_env().send_many(
        mails(batch, first, count, mailboxes), batch, on_receipt=lambda _, receipt: print(receipt.id, flush=True)
    )
