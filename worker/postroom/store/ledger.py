"""The ledger: where jobs and attempts are recorded, and the one truth about status.

Every move of a job is one function in `lua/`. The classes here give them their arguments and read their answers. Each
call may be made again with the same arguments, so a reply that was lost on the way is asked for again.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.store.claims import Claims
from postroom.store.functions import Connection
from postroom.store.intake import Intake
from postroom.store.operator import OperatorActions
from postroom.store.results import Results

if TYPE_CHECKING:  # a producer's import stays cheap
    from postroom.store.queries import Records


class Ledger(Intake, Claims, OperatorActions, Results):
    """All moves of jobs over one connection, and `records` to read. Each raises Unavailable.

    The `signature` is what this worker adds to the attempts that it records: its name, and where all mail goes.
    """

    def __init__(
        self, connection: Connection, folder: Path | None = None, signature: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(connection, folder)
        self._signature = signature or {}

    @cached_property
    def records(self) -> "Records":
        """What is recorded, to be read."""
        from postroom.store.queries import Records  # noqa: PLC0415 - a producer may never read

        return Records(self._redis)
