"""Every bound of what comes from outside, with its value from the code and its test, for docs/security.md."""

from collections.abc import Iterator
from typing import NamedTuple

from postroom.access import api_keys, failures
from postroom.api import connections, dependencies, middleware, request_bodies, server, wrong_keys
from postroom.api.routes import emails, events
from postroom.cloudevents import parsing, strict_json, unmatched
from postroom.delivery import context
from postroom.delivery.round import LAST_TRIES_S
from postroom.mail import address, fields, mime_source, mime_tree, validation
from postroom.render import renderer, templates
from postroom.runtime import file_limit
from postroom.setup import directory
from postroom.smtp import session
from postroom.smtp.reception import COMMANDS, Limits
from postroom.store import constants, intake, intake_codec
from postroom.transport import http, way_out
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/security.md"
SMTP = Limits(message=0)


class Bound(NamedTuple):
    what: str
    limit: str
    where: str
    test: str  # the file below tests/, and the function


def size(count: int) -> str:
    """So many bytes, in the largest unit that fits."""
    for unit, name in ((1024 * 1024, "MB"), (1024, "kB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count:,} bytes"


def seconds(count: float) -> str:
    return f"{count:g} s"


def share(places: int) -> str:
    return f"{places} times the largest body"


def by_origin() -> Iterator[tuple[str, list[Bound]]]:
    """What comes from where, and its bounds."""
    yield "HTTP", _http()
    yield "Keys and events", _keys_and_events()
    yield "SMTP", _smtp()
    yield "Mail, whoever brings it", _mail()
    yield "Templates", _templates()
    yield "Graph and Entra", _graph()
    yield "The queue and Redis", _redis()


def _http() -> list[Bound]:
    limits = "api/test_limits.py"
    return [
        Bound(
            "connections of a process",
            f"{connections.MOST:,}, or {connections.RESERVED} fewer than files it may open; then silent ones make room",
            "api/connections.py",
            f"{limits} test_a_new_connection_takes_the_place_of_the_one_that_is_silent_for_longest",
        ),
        Bound(
            "files of a process",
            f"raised to {file_limit.WANTED:,} where the system allows it",
            "runtime/file_limit.py",
            "runtime/test_file_limit.py test_a_worker_asks_for_all_that_it_may_have",
        ),
        Bound(
            "the head of a request",
            f"{size(middleware.MOST_HEADER_BYTES)} in {seconds(server.HEAD_DEADLINE_S)}",
            "api/server.py",
            f"{limits} test_a_request_head_that_never_ends_is_disconnected",
        ),
        Bound(
            "a body",
            f"`POSTROOM_MAX_MESSAGE` and {size(validation.MB)}, in {seconds(request_bodies.DEADLINE_S)}",
            "api/request_bodies.py",
            f"{limits} test_a_body_that_grows_too_large_is_cut_off",
        ),
        Bound(
            "a body's pace",
            f"{size(request_bodies.LEAST_BYTES)} in {seconds(request_bodies.SILENT_S)}, or the rest of it",
            "api/request_bodies.py",
            f"{limits} test_a_body_that_stays_silent_is_given_up_long_before_its_deadline",
        ),
        Bound(
            "all bodies in memory",
            share(request_bodies.AT_ONCE),
            "api/request_bodies.py",
            f"{limits} test_large_bodies_beyond_the_memory_limit_are_to_be_sent_again_later",
        ),
        Bound(
            "those of one key, and of one address",
            share(request_bodies.OF_ONE),
            "api/request_bodies.py",
            f"{limits} test_one_key_and_one_address_get_half_of_the_memory",
        ),
        Bound(
            "a body without a key",
            size(events.MOST_WITHOUT_KEY),
            "api/routes/events.py",
            "api/test_events.py test_without_a_key_only_a_short_question_is_read",
        ),
        Bound(
            "JSON",
            f"{strict_json.MOST_VALUES:,} values, {strict_json.DEEPEST} levels",
            "cloudevents/strict_json.py",
            "api/test_events.py test_the_values_of_a_body_are_counted_before_they_are_made",
        ),
        Bound(
            "requests at work, and waiting",
            f"{dependencies.THREADS}, and {middleware.MOST_WAITING}; more are answered 503",
            "api/middleware.py",
            f"{limits} test_requests_beyond_those_that_may_wait_are_to_be_sent_again",
        ),
        Bound(
            "an answer that is not read",
            seconds(connections.NO_PROGRESS_S),
            "api/connections.py",
            f"{limits} test_a_client_that_reads_nothing_of_its_answer_is_disconnected_and_one_that_does_is_not",
        ),
        Bound(
            "mails of one request",
            str(emails.MOST_IN_BATCH),
            "api/routes/emails.py",
            "api/test_emails.py test_a_batch_has_1_to_500_mails",
        ),
    ]


def _keys_and_events() -> list[Bound]:
    many, per = api_keys.RATE
    most, longest = wrong_keys.MOST_WAITING, failures.Failures()._longest_s
    return [
        Bound(
            "requests of a key",
            f"{many} in {seconds(per)}, unless the key says otherwise",
            "access/api_keys.py",
            "api/test_access.py test_the_pace_of_a_key_holds_for_any_stretch_of_time",
        ),
        Bound(
            "wrong keys and passwords",
            f"each waits up to {seconds(longest)}, {most} of an address at a time; {failures.MOST_KNOWN:,} addresses",
            "access/failures.py",
            "api/test_access.py test_wrong_keys_wait_for_their_answer_and_are_logged_with_the_address",
        ),
        Bound(
            "events of one request",
            f"{parsing.MOST_EVENTS}, each attribute {parsing.LONGEST:,} characters",
            "cloudevents/parsing.py",
            "cloudevents/test_parsing.py test_what_is_no_event_is_refused_with_the_reason",
        ),
        Bound(
            "notes of events without mail",
            f"the newest {unmatched.KEPT:,}",
            "cloudevents/unmatched.py",
            "api/test_events.py test_the_newest_events_without_mail_are_kept_and_no_more",
        ),
        Bound(
            "an idempotency key",
            f"{intake_codec.LONGEST_KEY} characters",
            "store/intake_codec.py",
            "api/test_emails.py test_an_idempotency_key_is_one_printable_word_of_bounded_length",
        ),
    ]


def _smtp() -> list[Bound]:
    hostile = "smtp/test_hostile.py"
    return [
        Bound(
            "connections",
            f"{SMTP.connections}, of one address {SMTP.of_one_address}; before the TLS handshake too",
            "smtp/reception.py",
            f"{hostile} test_connections_that_never_shake_hands_are_counted",
        ),
        Bound(
            f"messages over {size(session.SMALL)} that are received at once",
            f"{SMTP.receiving}; others wait {seconds(SMTP.turn_s)} for their turn",
            "smtp/reception.py",
            f"{hostile} test_a_message_that_waits_too_long_for_its_turn_is_to_be_sent_again",
        ),
        Bound(
            "time between commands, and for a message",
            f"{seconds(SMTP.unknown_s)} before the login, {seconds(SMTP.idle_s)} after it",
            "smtp/reception.py",
            f"{hostile} test_a_client_that_does_not_read_its_answers_is_disconnected",
        ),
        Bound(
            "commands of a connection",
            f"{COMMANDS['MAIL']:,} mails, {COMMANDS['RCPT']:,} recipients, {COMMANDS['*']} of a kind that is seldom",
            "smtp/reception.py",
            f"{hostile} test_recipients_and_commands_of_a_connection_are_limited",
        ),
        Bound(
            "the pace of a message",
            f"{size(SMTP.pace)}/s, on an average of {seconds(SMTP.pace_s)}",
            "smtp/reception.py",
            f"{hostile} test_a_message_that_comes_too_slowly_is_cut_off",
        ),
        Bound(
            "memory of a message",
            "six times its size",
            "smtp/session.py",
            f"{hostile} test_a_message_takes_at_most_six_times_its_size_of_memory",
        ),
        Bound(
            "a command",
            size(session.LONGEST_COMMAND),
            "smtp/session.py",
            f"{hostile} test_a_command_without_end_is_refused",
        ),
        Bound(
            "wrong passwords of a connection",
            str(SMTP.wrong_passwords),
            "smtp/reception.py",
            f"{hostile} test_a_wrong_password_is_answered_like_an_unknown_name_and_tries_are_limited",
        ),
        Bound(
            "parts of a message that is taken apart",
            f"{mime_tree.MOST_PARTS:,}, {mime_tree.DEEPEST} deep",
            "mail/mime_tree.py",
            "smtp/test_submission.py test_a_message_that_parts_would_change_is_refused_with_what_to_do",
        ),
    ]


def _mail() -> list[Bound]:
    return [
        Bound(
            "a mail",
            f"`POSTROOM_MAX_MESSAGE`: {size(validation.MAX_MESSAGE)}, at most {size(validation.LARGEST_MESSAGE)}",
            "mail/validation.py",
            "api/test_emails.py test_a_mail_larger_than_the_limit_of_the_workers_is_refused",
        ),
        Bound(
            "recipients",
            str(validation.MAX_RECIPIENTS),
            "mail/validation.py",
            "mail/test_model.py test_five_hundred_recipients_are_taken",
        ),
        Bound(
            "a list or table in a mail",
            f"{validation.MOST_ENTRIES:,} entries",
            "mail/validation.py",
            "mail/test_model.py test_very_many_faults_are_reported_in_one_line",
        ),
        Bound(
            "an address with its name",
            f"{address.LONGEST:,} characters",
            "mail/address.py",
            "mail/test_address.py test_an_endless_address_is_refused_before_it_is_decoded",
        ),
        Bound(
            "header fields of a mail",
            str(fields.MOST_HEADERS),
            "mail/fields.py",
            "mail/test_model.py test_a_mail_has_at_most_a_hundred_headers",
        ),
        Bound(
            "the header of a MIME source",
            size(mime_source.LONGEST_HEADER),
            "mail/mime_source.py",
            "mail/test_mime_source.py test_a_message_that_cannot_be_sent_is_reported_with_its_line",
        ),
    ]


def _templates() -> list[Bound]:
    tests = "test_renderer.py"
    harmful = f"{tests} test_what_would_never_end_or_fill_memory_is_a_fault_and_the_next_mail_is_rendered"
    return [
        Bound("CPU time of a mail's rendering", seconds(renderer.CPU_S), "render/child.py", harmful),
        Bound("memory of a process that renders", size(renderer.MEMORY), "render/child.py", harmful),
        Bound(
            "processes that render, of one worker process",
            f"{renderer.MOST}, for one mailbox {renderer.OF_ONE}; 1 for all whose mail brought one down lately",
            "render/renderer.py",
            f"{tests} test_senders_whose_mail_brought_a_child_down_share_one",
        ),
        Bound(
            "elements that are open at once in HTML",
            f"{templates.DEEPEST:,}",
            "render/templates.py",
            "test_render.py test_html_that_is_nested_too_deeply_is_a_fault_and_never_reaches_the_inliner",
        ),
        Bound(
            "a subject or body",
            f"{templates.MAX_CHARACTERS:,} characters",
            "render/templates.py",
            "test_render.py test_a_bomb_goes_off_in_the_template_and_not_in_the_worker",
        ),
    ]


def _graph() -> list[Bound]:
    return [
        Bound(
            "an answer",
            f"{http.MAX_ANSWER:,} bytes",
            "transport/http.py",
            "transport/test_lost.py test_an_answer_beyond_all_measure_is_lost",
        ),
        Bound(
            "a proxy's answer to the doctor",
            size(way_out.MOST_OF_A_PROXY),
            "transport/way_out.py",
            "transport/test_way_out.py test_a_proxy_that_talks_without_end_is_given_up",
        ),
        Bound(
            "a request with its answer",
            f"half of `POSTROOM_LEASE`, at most {seconds(context.LONGEST_POST_S)}",
            "delivery/context.py",
            "transport/test_lost.py test_an_answer_that_drips_is_lost_at_the_deadline",
        ),
        Bound(
            "a list that `postroom setup` reads",
            f"{directory.MOST_PAGES} pages, of this Graph only",
            "setup/directory.py",
            "setup/test_directory.py test_a_list_without_an_end_is_not_read_for_ever",
        ),
        Bound(
            "what Graph asks `postroom setup` to wait",
            f"{seconds(directory.LONGEST_WAIT_S)}, {directory.TRIES} times",
            "setup/directory.py",
            "setup/test_directory.py test_a_wait_that_graph_asks_for_is_bounded",
        ),
    ]


def _redis() -> list[Bound]:
    return [
        Bound(
            "an answer to an API request",
            seconds(dependencies.TIMEOUT_S),
            "api/dependencies.py",
            "store/test_unavailable.py test_a_closed_port_is_unavailable",
        ),
        Bound(
            "mails of one script",
            str(intake.PORTION),
            "store/intake.py",
            "store/test_send_many.py",
        ),
        Bound(
            "the journal, while a consumer lags",
            f"{constants.JOURNAL_ENTRIES:,} entries, {size(constants.JOURNAL_BYTES)}",
            "store/constants.py",
            "store/test_journal.py test_the_journal_is_bounded_in_bytes",
        ),
        Bound(
            "Redis away while a worker stops",
            seconds(LAST_TRIES_S),
            "delivery/round.py",
            "delivery/test_round.py test_a_202_is_recorded_however_long_redis_is_away",
        ),
    ]


def table(bounds: list[Bound]) -> str:
    """The rows of one origin."""
    rows = ["| what | limit | in | test |", "| --- | --- | --- | --- |"]
    for bound in bounds:
        file, _, function = bound.test.partition(" ")
        rows.append(
            f"| {bound.what} | {bound.limit} | `{bound.where}` | `tests/{file}`{function and f' `{function}`'} |"
        )
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """The page with its tables as they should be."""
    before, mark, rest = page.partition("<!-- bounds -->\n")
    _, end, after = rest.partition("<!-- end of bounds -->")
    text = "\n".join(f"### {origin}\n\n{table(bounds)}" for origin, bounds in by_origin())
    return f"{before}{mark}\n{text}\n{end}{after}"
