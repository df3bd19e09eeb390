"""Reads values from the texts of settings and options: durations, rates, sizes."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0}
_UNITS["day"] = _UNITS["d"]


_LONGEST = 100 * 366 * 86400.0


def duration(value: object) -> float:
    """Seconds in `30s`, `5min`, `72h`, `7d` or `1h30min`; ValueError otherwise."""
    if isinstance(value, int | float):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(value).strip().lower())
    whole = "".join(number + unit for number, unit in parts)
    if not parts or whole != re.sub(r"\s", "", str(value).lower()) or any(unit not in _UNITS for _, unit in parts):
        raise ValueError("a duration is a number and a unit, as in 30s, 5min, 72h or 7d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError("that is longer than 100 years")
    return seconds


def rates(value: object) -> tuple[tuple[int, float], ...]:
    """(requests, seconds) for each part of `30/min` or `30/min,10000/day`; empty for `off`. ValueError otherwise."""
    if isinstance(value, tuple):
        return value
    if str(value).strip().lower() == "off":
        return ()
    parsed = []
    for part in str(value).split(","):
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d*)\s*([a-z]+)\s*", part.lower())
        if not match or match[3] not in _UNITS or int(match[1]) < 1:
            raise ValueError("a rate is a count per time, as in 30/min or 30/min,10000/day, or off")
        parsed.append((int(match[1]), int(match[2] or 1) * _UNITS[match[3]]))
    return tuple(parsed)


def size(value: object) -> int:
    """Bytes in `35MB` or `500kB`; a kB has 1024, as Exchange counts. ValueError otherwise."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(kb|mb)", str(value).strip().lower())
    if not match:
        raise ValueError("a size is a number and a unit, as in 35MB")
    return round(float(match[1]) * (1024 * 1024 if match[2] == "mb" else 1024))


def look_ups(value: object) -> tuple[float, ...]:
    """Rising seconds in `10s,1min,5min`; empty for `off`. ValueError otherwise."""
    if isinstance(value, tuple):
        return value
    if str(value).strip().lower() == "off":
        return ()
    times = tuple(duration(part) for part in str(value).split(","))
    if list(times) != sorted(set(times)) or times[0] <= 0:
        raise ValueError("rising times are needed, as in 10s,1min,5min, or off")
    return times
