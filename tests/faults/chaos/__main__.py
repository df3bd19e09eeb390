"""Sends thousands of mails while everything fails, and balances the books: `make chaos`.

Worker processes are killed, frozen for longer than their lease and ended; so are their supervisors. Redis is killed
and comes back over its append-only file; the network between it and the workers is cut, held up and robbed of answers.
Entra and Graph fail in every way they know, a 504 that hides an accepted mail among them. Producers die halfway and run
again. Then the faults end, what waits is sent, and what the sandbox saw is compared with the ledger, job by job.

Exit code 1 means that a promise is broken:

- a mail is lost: taken in and not sent, though nobody calls it dead; or it has not ended when the time is over
- a mail is doubled in look-up or draft mode, unless its process was frozen between its last look at the deadline and
  the write, which nothing can prevent
- in plain mode, a mail is doubled whose outcome nobody called unknown, or is sent more than twice
- more than 4 requests of one mailbox are in flight, as far as a worker still waits for them (see balance.py)
- more than 30 mails of a mailbox with a limited rate are posted within any 60 s
"""

import argparse
import json
import random
import sys
from dataclasses import asdict

from rich.console import Console

from ..balance import Balance
from .producers import LIMITED_MAILBOXES
from .report import table
from .run import ROLES, Run


def options() -> argparse.Namespace:
    what, _, broken = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description=f"{what}\n\n{broken}",
        epilog="With make: make chaos ARGS='--mails 1000 --mailboxes 20 --minutes 1 --mode draft'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mails", type=int, default=10_000, help="(10000)")
    parser.add_argument(
        "--mailboxes", type=int, default=50, help=f"(50); {LIMITED_MAILBOXES} of them keep the rate 30/min"
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults, in each mode; then all may drain (2)")
    parser.add_argument("--seed", type=int, help="of the plan of faults (a new one each time)")
    parser.add_argument("--mode", choices=ROLES, help="plain: may not read; look-up; draft (one after the other)")
    parser.add_argument("--json", action="store_true", help="the balances as JSON")
    parser.add_argument("--keep", action="store_true", help="logs and requests, also where all is well")
    given = parser.parse_args()
    if given.mails < 1 or given.mailboxes <= LIMITED_MAILBOXES or given.minutes <= 0:
        parser.error(f"at least 1 mail, {LIMITED_MAILBOXES + 1} mailboxes and some time are needed")
    return given


def main() -> int:
    given, err = options(), Console(stderr=True)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    err.print(f"seed {seed}", highlight=False)
    found: dict[str, Balance] = {}
    runs: dict[str, Run] = {}
    for mode in [given.mode] if given.mode else ROLES:
        runs[mode] = Run(
            mode=mode,
            mails=given.mails,
            mailboxes=given.mailboxes,
            minutes=given.minutes,
            seed=seed,
            keep=given.keep,
            say=lambda line: err.print(line, highlight=False),
        )
        found[mode], kept = runs[mode].go()
        for what in found[mode].broken[:20]:
            err.print(f"{mode}: {what}", highlight=False, markup=False, soft_wrap=True)
        if kept:
            err.print(f"{mode}: what happened, the workers' logs and every request are in {kept}", soft_wrap=True)
    if given.json:
        said = {mode: asdict(one) | {"happened": dict(runs[mode].happened)} for mode, one in found.items()}
        print(json.dumps({"seed": seed, "balances": said}, indent=1))
    else:
        Console().print(table(found, runs))
    return 1 if any(one.broken for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
