"""The templates: each is rendered with its sample in every locale, in the processes that workers use."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.surroundings import Surroundings, listed
from postroom.errors import PostroomError, TemplateFault
from postroom.render import Renderer, Templates
from postroom.settings.model import PREFIX

_SAY = Reporter(Group.TEMPLATES)
_ASKED = "can it be rendered with its sample?"
MOST = 500  # templates that are rendered


def check(around: Surroundings) -> Iterator[Finding]:
    """What is wrong with the templates of these settings."""
    folder = around.settings.templates
    if not folder.is_dir():
        yield _SAY.skipped("templates", _ASKED, f"there is no folder {folder}; mail with ready bodies needs none")
        return
    try:
        names = Templates(folder).names()[:MOST]
        faults = faults_of(folder, names)
    except OSError as error:
        yield _SAY.red(
            str(folder), _ASKED, f"{error.filename or folder}: {error.strerror}", "mail with a template waits",
            f"make {PREFIX}TEMPLATES readable for the user of the workers",
        )  # fmt: skip
        return
    yield from of_faults(names, faults)


def faults_of(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The faults of each template that has any. Raises OSError where the folder cannot be read."""
    templates, found = Templates(folder), {}
    with Renderer(folder, most=1) as renderer:
        for name in names:
            faults = []
            try:
                sample = templates.sample(name)
                for locale in templates.locales(name):
                    try:
                        renderer.render(name, sample, locale)
                    except PostroomError as fault:
                        faults.append(str(fault))
            except TemplateFault as fault:
                faults.append(str(fault))
            if faults:
                found[name] = list(dict.fromkeys(faults))
    return found


def of_faults(names: Sequence[str], faults: dict[str, list[str]]) -> Iterator[Finding]:
    """A finding for each template with faults, or one for all."""
    for name, found in faults.items():
        if any("no sample.json" in fault for fault in found):
            yield _SAY.yellow(
                name, _ASKED, found[0], "whether it works, only its first mail shows",
                f"write {name}/sample.json with a value for each of its variables",
            )  # fmt: skip
            continue
        yield _SAY.red(
            name, _ASKED, "; ".join(found[:3]), "mail with this template becomes a dead letter (template)",
            "correct the file; workers use it from the next mail on, and `postroom dead requeue` sends what died of it",
        )  # fmt: skip
    good = [name for name in names if name not in faults]
    if good:
        yield _SAY.green("templates", _ASKED, f"{len(good)}: {listed(good)}")
    elif not faults:
        yield _SAY.skipped("templates", _ASKED, "the folder has none")
