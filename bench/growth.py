"""`python -m bench.growth`: how the cost of a mail grows."""

from bench.__main__ import command
from bench.measures import Measures
from bench.measures.growth import forms, lanes, processes, waiting

SERIES: Measures = {
    "lanes": ("1 to 10,000 mailboxes", lanes),
    "processes": ("1 and 2 processes, threads and prefork", processes),
    "forms": ("JSON and MIME, 2 KB to 2 MB", forms),
    "waiting": ("1,000 to 1,000,000 waiting", waiting),
}

if __name__ == "__main__":
    command(SERIES)()
