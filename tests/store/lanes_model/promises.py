"""What must hold after each step."""

import json
from collections import Counter, defaultdict
from typing import Any

from hypothesis.stateful import invariant

from .possible import ENDED, LANES, MOST_PARALLEL
from .state import OUTLOOK, P, State

DAY = 86_400_000
CELERY = {
    "accepted": "SUCCESS",
    "dead": "FAILURE",
    "expired": "FAILURE",
    "cancelled": "REVOKED",
    "deferred": "RETRY",
    "queued": None,
    "sending": None,
}


class Promises(State):
    """Where jobs are, what indexes say of them, and that limits hold."""

    @invariant()
    def every_job_is_in_exactly_one_place(self) -> None:
        state = self.snapshot()
        records = {name.removeprefix("job:"): value for name, value in state.items() if name.startswith("job:")}
        places = Counter[tuple[str, str]]()
        for name, value in state.items():
            kind, _, rest = name.partition(":")
            if kind == "aside":
                for job_id in value:
                    places[job_id, kind] += 1
                    assert records[job_id]["batch"] == rest
            if kind in {"ready", "later", "claims"}:
                lane = rest.rpartition(":")[2]
                for job_id in value:
                    places[job_id, kind.removesuffix("s")] += 1
                    assert records[job_id]["lane"] == lane
                    assert kind != "ready" or rest.startswith(self.class_of(records[job_id]))
        assert places == {(i, r["place"]): 1 for i, r in records.items() if r["place"] != "ended"}
        self.indexes_agree(state, records)
        self.claims_agree(state, records)
        self.results_agree(state, records)
        assert set(records) <= set(self.jobs)

    def indexes_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        found, expected = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for name, value in state.items():
            if name.startswith(("status:", "to:", "batch:")):
                found[name] = set(value)
            if name == "keys":
                found |= {f"keys:{key}": {job_id} for key, job_id in value.items()}
        for job_id, record in records.items():
            names = [f"status:{record['status']}", *(f"to:{token}" for token in record["to"].split())]
            names += [f"keys:{record['key']}"] if "key" in record and "replaced_by" not in record else []
            names += [f"batch:{record['batch']}"] if "batch" in record else []
            for name in names:
                expected[name].add(job_id)
            assert (record["place"] == "ended" or "tidy" in record) == (record["status"] in ENDED)
            part = state.get(f"shared:{record.get('shared')}", {})
            has_mail = (f"mail:{job_id}" in state, job_id in part)
            gone = record["status"] in {"accepted", "cancelled"}
            assert has_mail == ((False, False) if gone else ("shared" not in record, "shared" in record))
            waits = (
                record["place"] in {"ready", "later", "aside"}
                and not {"in_doubt", "tidy"} & set(record)
                and "expires" in record
            )
            assert not waits or job_id in state["expiring"]
        assert found == expected
        assert all(records[i]["place"] != "ended" for i in state.get("expiring", ()))
        assert {n.partition(":")[2] for n in state if n.startswith(("mail:", "attempts:"))} <= set(records)
        parts = {n.partition(":")[2]: value for n, value in state.items() if n.startswith("shared:")}
        assert set(state.get("shares", {}).values()) == set(parts)
        for number, part in parts.items():
            those = {i for i, record in records.items() if record.get("shared") == number}
            assert part.keys() == {"mail", "files", "digest"} | those
            assert those

    def claims_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        claims = {i: score for n, v in state.items() if n.startswith("claims:") for i, score in v.items()}
        unmarked = {i for n, v in state.items() if n.startswith("unmarked:") for i in v}
        claimed = {i for i, r in records.items() if r.get("phase") == "claimed"}
        assert claims == state.get("leases", {})
        assert unmarked == {i for i in claimed if self.class_of(records[i]) != "check"}
        assert (
            set(claims)
            == {i for i, r in records.items() if "token" in r}
            == claimed | {i for i, r in records.items() if r["status"] == "sending"}
        )
        doubts = {i for i, r in records.items() if "in_doubt" in r and r["status"] not in ENDED}
        assert set(state.get("doubts", ())) == doubts
        slow, unknown = set(state.get("hands:slow", ())), set(state.get("hands:unknown", ()))
        assert slow | unknown <= set(claims)
        assert not slow & unknown

    def results_agree(self, state: dict[str, Any], records: dict[str, dict[str, str]]) -> None:
        for job_id, record in records.items():
            meta = state.get(f"celery-task-meta-{job_id}")
            assert (json.loads(meta)["status"] if meta else None) == CELERY[record["status"]]

    @invariant()
    def limits_hold(self) -> None:
        for lane, limits in LANES.items():
            marks = self.marked[lane]
            for count, seconds in limits.rates:
                for newest, oldest in zip(marks[count:], marks, strict=False):
                    assert newest - oldest > seconds * 1000
            for end, _, _ in self.spent[lane]:
                spent = sum(n for at, _, n in self.spent[lane] if end - DAY < at <= end)
                assert spent <= limits.daily_recipients

    @invariant()
    def rounds_are_few(self) -> None:
        young = Counter[str]()
        for queue in ("postroom", "postroom.high"):
            for message in self.redis.lrange(queue, 0, -1):
                said = json.loads(message)
                seen = self.seen_rounds.setdefault(said["headers"]["id"], self.now)
                young[json.loads(said["body"])[0][0]] += self.now - seen < 30_000
        for lane, count in young.items():
            assert int(self.redis.hget(f"{P}lane:{lane}", "asked") or 0) <= MOST_PARALLEL
            assert count <= 2 * MOST_PARALLEL + self.doubled

    @invariant()
    def no_lane_oversleeps(self) -> None:
        for lane in LANES:
            at, can_go = self.redis.fcall(f"{OUTLOOK}outlook", 0, self.now, lane)
            wakes = self.redis.zscore(P + "lanes", lane)
            if at == b"":
                continue
            assert wakes is not None
            asked = int(self.redis.hget(f"{P}lane:{lane}", "asked") or 0)
            assert wakes <= max(int(at), self.now + (30_000 if asked else 5_000)), (lane, wakes - self.now, can_go)
