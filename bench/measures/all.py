"""The measurements by name, in the order in which they are made."""

from bench.measures import Measure, races

MEASURES: dict[str, tuple[str, Measure]] = {
    "race-0ms": ("CPU and mails/s beside alternatives, answers at once", races.quick),
    "race-250ms": ("CPU and mails/s beside alternatives, answers after 250 ms", races.slow),
}
