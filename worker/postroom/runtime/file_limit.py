"""How many files a process may have open: a worker has a connection for each hand, and some more."""

import resource

WANTED = 65_536


def allow_many() -> None:
    """Asks the system for as many as it allows at all: by default Linux gives a process 1,024, and more if it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
