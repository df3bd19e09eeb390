"""What the pages say of settings, commands, reasons, events and files is what there is, and all of it."""

import re
from pathlib import Path

import click
import pytest
from fastapi.routing import APIRoute

from postroom.api.routes import batches, dead_letters, emails, events, health, lanes
from postroom.cli.main import COMMANDS as ENTRIES
from postroom.cli.main import main
from postroom.cloudevents.rules import EventRules, Rule
from postroom.jobs.job import Status
from postroom.settings.loading import AZURE, SECRETS, load_settings
from postroom.settings.model import TABLES, AppSettings, SenderSettings, Settings, SmtpClient

from .pages import PAGES, REFERENCE, ROOT, blocks, prose, rows

SOURCE = ROOT / "worker/postroom"
REDIS = {"POSTROOM_REDIS_URL": "redis://localhost"}
NOTHING = "–"

# Settings

DOCUMENTED = {name: cells for name, cells in rows("docs/settings.md").items() if name.startswith("POSTROOM_")}
FIELDS = {f"POSTROOM_{name.upper()}": name for name in Settings.model_fields if name not in TABLES}


def test_every_setting_is_documented_and_nothing_else_is() -> None:
    assert DOCUMENTED.keys() == {*FIELDS, "POSTROOM_CONFIG"}


@pytest.mark.parametrize("name", FIELDS)
def test_the_default_is_the_true_one(name: str) -> None:
    told = DOCUMENTED[name][0].strip("`")
    if told == "required":
        assert Settings.model_fields[FIELDS[name]].is_required()
        return
    given = {} if told == NOTHING else {name: told}
    default = getattr(load_settings(REDIS, ROOT / "none"), FIELDS[name])
    assert getattr(load_settings(REDIS | given, ROOT / "none"), FIELDS[name]) == default
    assert (default is None) == (told == NOTHING)


@pytest.mark.parametrize("name", FIELDS)
def test_the_example_is_a_right_value(name: str) -> None:
    assert load_settings(REDIS | {name: DOCUMENTED[name][2].strip("`")}, ROOT / "none")


def test_the_other_names_of_settings_are_documented() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for name in [*AZURE, *(secret.upper() for secret in SECRETS)]:
        assert f"`{name}`" in page


def test_the_file_s_tables_are_documented() -> None:
    senders, page = (
        rows("docs/settings.md", "## postroom.toml"),
        (ROOT / "docs/settings.md").read_text(encoding="utf-8"),
    )
    senders.pop("name")
    assert senders.keys() == SenderSettings.model_fields.keys()
    for name, (default, _) in senders.items():
        documented = None if default == NOTHING else default.strip("`")
        assert (SenderSettings.model_fields[name].default or None) == documented
    apps = re.findall(r"`(\w+)`", page.partition("`POSTROOM_` setting of the same name:")[2].partition(". ")[0])
    assert set(apps) == AppSettings.model_fields.keys()


def test_the_clients_of_the_smtp_door_are_documented_and_their_example_is_right(tmp_path: Path) -> None:
    told = rows("docs/settings.md", "## The SMTP door").keys() - {"name"} - DOCUMENTED.keys()
    example = next(block.code for block in blocks(ROOT / "docs/smtp.md") if block.language == "toml")
    (tmp_path / "postroom.toml").write_text(example, encoding="utf-8")

    found = load_settings(REDIS, tmp_path)

    shown = {name for client in found.smtp.values() for name in client.model_fields_set}
    assert told == SmtpClient.model_fields.keys() == shown


def test_the_example_of_a_file_is_right_and_shows_every_setting_of_a_sender(tmp_path: Path) -> None:
    for name in ("hr.pfx", "hr.password"):
        (tmp_path / name).write_text("sesame")
    example = next(block.code for block in blocks(ROOT / "docs/settings.md") if block.language == "toml")
    (tmp_path / "postroom.toml").write_text(example.replace("/run/secrets", str(tmp_path)), encoding="utf-8")

    found = load_settings(REDIS | {"POSTROOM_CONFIG": "postroom.toml"}, tmp_path)

    assert {
        name for sender in found.senders.values() for name in sender.model_fields_set
    } == SenderSettings.model_fields.keys()
    assert all(not list(app.faults("{}")) for name, app in found.all_apps.items() if name != "default")


def test_the_example_of_a_rule_is_right_and_shows_every_field() -> None:
    example = next(block.code for block in blocks(ROOT / "docs/events.md") if block.language == "toml")
    (rule,) = EventRules.parse(example, "events.toml").rules.values()
    documented = {name for cell in rows("docs/events.md", "## Rules") for name in re.findall(r"\w+", cell)} - {"field"}
    assert documented == {"from" if name == "sender" else name for name in Rule.model_fields}
    assert Rule.model_fields.keys() - rule.model_fields_set == {"bcc", "reply_to", "subject"}


def test_every_code_of_an_error_and_every_route_of_the_api_is_documented() -> None:
    page = (ROOT / "docs/http.md").read_text(encoding="utf-8") + (ROOT / "docs/events.md").read_text(encoding="utf-8")
    code = "".join(file.read_text(encoding="utf-8") for file in (SOURCE / "api").rglob("*.py"))
    for name in re.findall(r'Refusal\(\s*\w+(?:\.\w+)?, "(\w+)"', code):
        assert f"`{name}`" in page, name
    for module in (emails, batches, dead_letters, lanes, events, health):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            path = route.path_format.replace("{job_id}", "{id}")
            assert path in page, path


def test_no_page_names_a_setting_that_there_is_not() -> None:
    right = {*FIELDS, "POSTROOM_CONFIG", *(f"POSTROOM_{name.upper()}_FILE" for name in SECRETS)}
    assert set(re.findall(r"\bPOSTROOM_[A-Z_]+\b", REFERENCE)) - right <= {"POSTROOM_SERVICE_HOST", "POSTROOM_"}


# Commands

CONTEXT = click.Context(main)
TOP = {name: main.get_command(CONTEXT, name) for name in main.list_commands(CONTEXT)}
COMMANDS = TOP | {
    f"{group} {name}": command
    for group, commands in TOP.items()
    if isinstance(commands, click.Group)
    for name, command in commands.commands.items()
}


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    assert {name: entry.help for name, entry in ENTRIES.items()} == {
        name: command.help.split("\n\n")[0].replace("\n", " ") for name, command in TOP.items()
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_is_on_a_page(name: str) -> None:
    assert COMMANDS[name].help
    assert f"postroom {name}" in REFERENCE
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert re.search(rf"[` ]{parameter.opts[0]}\b", REFERENCE), parameter.opts[0]


def test_every_command_that_is_named_exists() -> None:
    assert set(re.findall(r"(?:`|\$ |\n)postroom ([a-z][a-z-]*)", REFERENCE)) <= COMMANDS.keys()


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", REFERENCE)) <= targets


# States, reasons, events


def test_every_state_has_its_meaning_on_the_page() -> None:
    assert rows("docs/operations.md", "## States").keys() == {"state", *Status}


def test_every_event_has_its_meaning_on_the_page() -> None:
    told = {event for row in rows("docs/operations.md", "## Logs") for event in re.findall(r"[a-z]+\.[a-z]+", row)}
    code = "".join(file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py"))
    scripts = "".join(file.read_text(encoding="utf-8") for file in SOURCE.glob("store/lua/**/*.lua"))
    moves = {"mail.accepted", "mail.deferred", "mail.dead", "draft.removed", "draft.kept"}
    acts = {f"mail.{did}" for did in re.findall(r"audit\.note\(\w+, \w+, (?:note\.)?act, '(\w+)'", scripts)}
    acts |= set(re.findall(r"events\.log(?:_hold)?\('([a-z]+\.[a-z]+)'", scripts))
    assert told == {*re.findall(r'(?:emit\(\s*|_log\(|FAILED = )"([a-z.]+)"', code), *moves, *acts, "claim.lost"}


# Files and links


def test_the_tree_names_every_package_and_every_file_beside_them() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = set(re.findall(r"\w+", text.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]))
    names = {path.stem for path in SOURCE.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")}
    assert names - tree == set()


def test_every_file_that_the_design_pages_and_recipes_name_exists() -> None:
    files = [f"/{path.relative_to(ROOT)}" for top in ("worker", "tests") for path in (ROOT / top).rglob("*.*")]
    for page in [ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md", *ROOT.glob("docs/design/*.md")]:
        for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|lua))\b", page.read_text(encoding="utf-8")):
            assert any(file.endswith(f"/{name}") for file in files), (page.name, name)


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("https://"):
                file, _, anchor = link.partition("#")
                target = (page.parent / file) if file else page
                assert target.exists(), (page.name, link)
                assert not anchor or anchor in anchors(target), (page.name, link)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
