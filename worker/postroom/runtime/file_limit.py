"""How many files a process may have open. A worker needs a connection for each slot, and some more."""

import resource

WANTED = 65_536


def raise_file_limit() -> None:
    """Raises this process's limit as far as the system allows, up to WANTED. Linux gives 1,024 unless it is asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
