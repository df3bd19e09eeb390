"""Rendering where it can be ended: what a template or a variable does harms nobody else."""

import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from postroom.errors import RendererBusy, TemplateFault, TemplateMissing
from postroom.render import Renderer, Templates
from postroom.render import renderer as module
from postroom.runtime.fibers import Hub

FILES = {
    "hello/subject.txt": "Hello {{ name }}",
    "hello/body.txt": "Hello {{ name }}",
    "hello/body.html": "<style>p { color: red }</style><p>Hello {{ name }}</p>",
    "raw/subject.txt": "Raw",
    "raw/body.html": "{{ html|safe }}",
    "loops/subject.txt": "Loops",
    "loops/body.txt": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x",
    "tilde/subject.txt": "Tilde",
    "tilde/body.txt": "{% set ns = namespace(x='xxxxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x|length }}",
    "padded/subject.txt": "Padded",
    "padded/body.txt": "{{ '%999999999d' % 1 }}",
    "centred/subject.txt": "Centred",
    "centred/body.txt": "{{ 'x'|center(n) }}",
    "indented/subject.txt": "Indented",
    "indented/body.txt": "{{ lines|indent(n) }}",
    "sliced/subject.txt": "Sliced",
    "sliced/body.txt": "{% for row in [1]|slice(n) %}{% endfor %}x",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Renderer]]:
    started: list[Renderer] = []

    def start(**options: object) -> Renderer:
        started.append(Renderer(folder, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_it_renders_as_templates_do(folder: Path, start: Callable[..., Renderer]) -> None:
    renderer, here = start(), Templates(folder)
    for variables in ({"name": "Ann"}, {"name": "Ünal <b>"}, {"name": "x" * 500_000}):
        assert renderer.render("hello", variables, "de") == here.render("hello", variables, "de")
    with pytest.raises(TemplateFault) as there:
        renderer.render("hello", {"nam": "Ann"})
    with pytest.raises(TemplateFault) as known:
        here.render("hello", {"nam": "Ann"})
    assert str(there.value) == str(known.value)


def test_a_template_that_is_missing_is_told_apart_from_a_broken_one(start: Callable[..., Renderer]) -> None:
    with pytest.raises(TemplateMissing, match='no template "helo"; did you mean "hello"'):
        start().render("helo", {})


HARMFUL = [
    ("raw", {"html": "<div>" * 20_000}, "more than 1000 elements"),
    ("raw", {"html": "<div><object></div></object>" * 60_000}, "ended the renderer|too much memory|took more than"),
    ("loops", {}, "took more than 1 s"),
    ("tilde", {}, "too much memory"),
    ("padded", {}, "too much memory"),
    ("centred", {"n": 10**12}, "too much memory"),
    ("indented", {"n": 10**6, "lines": "x\n" * 90_000}, "too much memory"),
    ("sliced", {"n": 10**9}, "took more than 1 s|too much memory"),
]


@pytest.mark.parametrize(("name", "variables", "why"), HARMFUL)
def test_what_would_never_end_or_fill_memory_is_a_fault_and_the_next_mail_is_rendered(
    start: Callable[..., Renderer], name: str, variables: dict[str, object], why: str
) -> None:
    renderer = start(cpu_s=1.0)
    with pytest.raises(TemplateFault, match=f"^{name}.*({why})"):
        renderer.render(name, variables)
    assert renderer.render("hello", {"name": "Ann"}).subject == "Hello Ann"


def test_the_largest_mail_that_is_allowed_is_rendered(start: Callable[..., Renderer]) -> None:
    rows = "<tr><td><p style='margin: 0'>1</td><td><b>2</b></td></tr>" * 30_000
    html = start().render("raw", {"html": f"<style>td {{ color: red }}</style><table>{rows}</table>"}).html
    assert html is not None
    assert len(html) > 2_000_000


def test_other_mail_is_rendered_while_a_senders_mail_keeps_children_busy(start: Callable[..., Renderer]) -> None:
    renderer = start(cpu_s=2.0)
    renderer.render("hello", {"name": "Ann"}, None, "ann@contoso.com")
    faults: list[str] = []

    def spin() -> None:
        with pytest.raises(TemplateFault) as caught:
            renderer.render("loops", {}, None, "loops@contoso.com")
        faults.append(str(caught.value))

    threads = [threading.Thread(target=spin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert renderer.render("hello", {"name": "Ann"}, None, "ann@contoso.com").subject == "Hello Ann"
    assert not faults
    for thread in threads:
        thread.join()
    assert len(faults) == 2


def test_senders_whose_mail_brought_a_child_down_share_one(start: Callable[..., Renderer]) -> None:
    pool = start()._pool
    pool._harmful = dict.fromkeys("abc", time.monotonic() + 60)
    busy, free = (module._Hand(SimpleQueue(), deque()) for _ in range(2))
    pool.hands = [busy, free]
    busy.at_work.append(an_ask("a"))

    assert not pool._may_have_one("b")
    assert pool._may_have_one("d")
    busy.at_work.clear()
    assert pool._may_have_one("b")
    pool.hands = []


def test_a_child_is_given_several_small_mails_and_a_large_or_harmful_one_alone(start: Callable[..., Renderer]) -> None:
    pool = start()._pool
    pool._harmful = {"h": time.monotonic() + 60}
    small, large, harmful = an_ask("a"), an_ask("a", module.TOGETHER_BYTES + 1), an_ask("h")
    pool._waiting = deque([small, small, harmful, small, large, small])

    assert pool._pick() == [small, small]
    assert pool._pick() == [harmful]
    assert pool._pick() == [small]
    assert pool._pick() == [large]
    assert pool._pick() == [small]


def test_what_has_waited_for_too_long_is_given_up(start: Callable[..., Renderer]) -> None:
    pool, results = start()._pool, list[object]()
    late = an_ask("a")
    late.since, late.callback = time.monotonic() - module.PATIENCE_S - 1, results.append
    pool._waiting = deque([late])

    assert pool._pick() == []
    assert "RendererBusy" in str(results)


def test_many_threads_and_senders_get_what_is_theirs(start: Callable[..., Renderer]) -> None:
    renderer = start()

    def subjects(person: int) -> list[str]:
        each = ({"name": f"{person}/{number}"} for number in range(100))
        return [renderer.render("hello", variables, None, f"{person % 5}@contoso.com").subject for variables in each]

    with ThreadPoolExecutor(20) as threads:
        for person, found in enumerate(threads.map(subjects, range(20))):
            assert found == [f"Hello {person}/{number}" for number in range(100)]


def test_a_mail_whose_child_is_killed_is_rendered_by_another(start: Callable[..., Renderer]) -> None:
    renderer = start(cpu_s=30.0)
    renderer.render("hello", {"name": "Ann"})
    os.kill(child_of(renderer).process.pid, signal.SIGKILL)
    assert renderer.render("hello", {"name": "Ann"}).subject == "Hello Ann"

    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(caught_of(lambda: renderer.render("loops", {}))))
    thread.start()
    for _ in range(module.TRIES):
        kill_when_busy(renderer)
    thread.join()
    assert "ended the renderer (SIGKILL)" in str(results[0])
    assert renderer.render("hello", {"name": "Ann"}).subject == "Hello Ann"


def test_a_child_ends_with_its_parent_and_knows_no_setting_of_ours(
    start: Callable[..., Renderer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTROOM_CLIENT_SECRET", "hush")
    monkeypatch.setenv("SOMEBODY_ELSES_TOKEN", "hush")
    renderer = start()
    renderer.render("hello", {"name": "Ann"})
    child = child_of(renderer)
    assert "hush" not in str(psutil.Process(child.process.pid).environ())
    child._socket.shutdown(socket.SHUT_RDWR)  # as when the parent has died
    assert child.process.wait(20) == 0


def test_a_fork_starts_children_of_its_own(start: Callable[..., Renderer]) -> None:
    renderer = start()
    renderer.render("hello", {"name": "Ann"})
    mine = child_of(renderer).process.pid
    renderer._pool._pid = -1  # as in a process that was forked
    renderer.render("hello", {"name": "Ann"})
    assert child_of(renderer).process.pid != mine
    os.kill(mine, signal.SIGKILL)
    os.waitpid(mine, 0)


def test_in_a_fiber_it_waits_without_holding_up_the_others(start: Callable[..., Renderer]) -> None:
    renderer, done = start(cpu_s=1.0), SimpleQueue[str]()
    hub = Hub(8, lambda: None)
    hub.start(lambda: done.put(str(caught_of(lambda: renderer.render("loops", {}, None, "loops@contoso.com")))))
    hub.start(lambda: done.put(renderer.render("hello", {"name": "Ann"}, None, "ann@contoso.com").subject))
    assert [done.get(timeout=30), done.get(timeout=30)] == ["Hello Ann", "loops: it took more than 1 s to render"]
    hub.close()


def test_a_child_that_cannot_start_is_told_apart_from_a_template_at_fault(
    start: Callable[..., Renderer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RendererBusy):
        start().render("hello", {"name": "Ann"})


def an_ask(sender: str, size: int = 10) -> module._Ask:
    return module._Ask(sender, "hello", b" " * size, lambda _: None, time.monotonic())


def child_of(renderer: Renderer) -> module._Child:
    """Its only child."""
    (hand,) = renderer._pool.hands
    assert hand.child
    return hand.child


def caught_of(call: Callable[[], object]) -> object:
    try:
        return call()
    except TemplateFault as fault:
        return fault


def kill_when_busy(renderer: Renderer) -> None:
    """Kills the child that renders just now."""
    while not (busy := [hand for hand in renderer._pool.hands if hand.is_slow and hand.child]):
        time.sleep(0.01)
    child = busy[0].child
    os.kill(child.process.pid, signal.SIGKILL)
    while busy[0].child is child:
        time.sleep(0.01)
