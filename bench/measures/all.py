"""The measurements by name, in the order in which they are made."""

from bench.measures import (
    Measures,
    backlog,
    commands,
    doors,
    imports,
    latency,
    mailbox,
    memory,
    neighbours,
    pace,
    races,
    tick,
)

MEASURES: Measures = {
    "race-0ms": ("CPU and mails/s beside alternatives, answers at once", races.quick),
    "race-250ms": ("CPU and mails/s beside alternatives, answers after 250 ms", races.slow),
    "mailbox": ("one mailbox's mails/s", mailbox.mailbox),
    "idle": ("from Client.send to Graph in an idle room", latency.idle),
    "backlog": ("100,000 in one lane: send_many, Client.send, a high mail's place", backlog.backlog),
    "neighbours": ("quiet mailboxes beside a busy one, and beside hanging ones", neighbours.neighbours),
    "bytes": ("what Redis keeps for a job", memory.bytes_of_a_job),
    "commands": ("our commands to Redis for a mail", commands.commands),
    "doors": ("CPU of a mail over HTTP and SMTP, beside bare servers", doors.doors),
    "tick": ("the clock, with 10,000 lanes waiting", tick.tick),
    "import": ("what import postroom and quick commands cost", imports.imports),
    "memory": ("a worker's memory with 1,000,000 waiting", memory.worker_memory),
    "pace": ("30/min: all of it, and never more", pace.pace),
}
