"""Renders templates in this process: a name and variables in, subject and bodies out."""

import difflib
import json
import os
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from css_inline import CSSInliner, InlineError
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.exceptions import (
    SecurityError,
    TemplateError,
    TemplateNotFound,
    TemplateRuntimeError,
    TemplateSyntaxError,
    UndefinedError,
)
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

from postroom.errors import TemplateFault, TemplateMissing
from postroom.mail.bodies import Bodies

MAX_CHARACTERS = 2_000_000
DEEPEST = 1000  # elements that are open at once; the inliner's stack bears some thousands

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_LOCALE_FILE = re.compile(r"(?:subject|body)\.(.+)\.(?:txt|html)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_MISSING = re.compile(r"'([^']*)'(?: is undefined)?$")
# How an error message names a value's type: 'dict object' has no …, 'int' object is …, not "int".
_TYPE = re.compile(r"""'[\w.]+(?: object'|' object)|['"](?:str|int|float|bool|list|dict|tuple|NoneType)['"]""")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that have no content, or whose end others bring about.
_CLOSED_BY_OTHERS = re.compile(
    "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr"
    "|p|li|dt|dd|tr|td|th|thead|tbody|tfoot|colgroup|option|optgroup"
)
_ELEMENT = re.compile(r"(?s)has no element (.*)")


class _File(NamedTuple):
    path: str
    locale: str


class Templates:
    """The templates in `folder`. Each template is a subfolder.

        templates/welcome/subject.txt   one line
                          body.html     its <style> becomes inline styles; what cannot be inline stays there
                          body.txt      at least one of the two bodies
                          sample.json   variables to try it with
        templates/_layout/…             what templates extend or include: names with _ are none themselves

    A file may have versions for locales. For de-AT the first of `body.de-at.html`, `body.de.html` and `body.html` that
    exists is used; each file is chosen separately. A template gets the given variables and `locale`: the locale of the
    chosen file, empty for a file without one.

    The language is Jinja2. A missing or null variable is a fault, variables are escaped in .html, and the filter
    `date` formats ISO 8601 times: `{{ ends_at|date("%d %B %Y") }}`. A changed file is used from the next mail on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jinja = _Sandbox(
            loader=_Inside(folder, encoding="utf-8-sig"),  # some editors on Windows write a BOM
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            finalize=_not_null,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters["date"] = _date
        # What cannot stand in an element, such as a:hover and @media, stays in <style>.
        self._inliner = CSSInliner(keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False)

    def names(self) -> list[str]:
        """The names of all templates, sorted."""
        return sorted(d.name for d in self._folder.iterdir() if _NAME.fullmatch(d.name) and d.is_dir())

    def render(self, name: str, variables: Mapping[str, Any], locale: str | None = None) -> Bodies:
        """Subject and bodies of the template `name`.

        Raises TemplateFault, which names file and line; or OSError if the disk fails, where a retry may help.
        """
        files = self._files(name)
        subject, html, text = (_pick(files, part, locale) for part in ("subject.txt", "body.html", "body.txt"))
        if subject is None:
            raise TemplateFault(f"{name}: no subject; write it into {name}/subject.txt")
        if html is None and text is None:
            raise TemplateFault(f"{name}: no body; write {name}/body.html, {name}/body.txt or both")
        return Bodies(
            subject=_one_line(self._text(subject, variables), subject.path),
            html=self._inlined(self._text(html, variables), html.path) if html else None,
            text=self._text(text, variables).strip() + "\n" if text else None,
        )

    def sample(self, name: str) -> dict[str, Any]:
        """The variables in the template's sample.json. Raises TemplateFault if there is no valid one."""
        path = self._files(name).get("sample.json")
        if path is None:
            raise TemplateFault(f"{name}: no sample.json; write one with a value for each variable")
        try:
            sample = json.loads((self._folder / path).read_bytes())
        except ValueError as error:
            raise TemplateFault(f"{name}/sample.json is not JSON: {error}") from None
        if not isinstance(sample, dict):
            raise TemplateFault(f'{name}/sample.json is no object; write {{"variable": value, …}}')
        return sample

    def check(self, name: str) -> list[str]:
        """The faults of the template `name`, rendered with its sample in each of its locales."""
        try:
            sample = self.sample(name)
        except TemplateFault as fault:
            return [str(fault)]
        faults: dict[str, None] = {}
        for locale in self.locales(name):
            try:
                self.render(name, sample, locale)
            except TemplateFault as fault:
                faults[str(fault)] = None
        return list(faults)

    def locales(self, name: str) -> list[str]:
        """The locales that the template has files for, and "" for none. Raises TemplateMissing."""
        matches = (_LOCALE_FILE.fullmatch(file) for file in self._files(name))
        return sorted({"", *(match[1] for match in matches if match)})

    def _files(self, name: str) -> dict[str, str]:
        """The paths of the template's files, by their names in lower case and with `-` instead of `_`."""
        try:
            names = os.listdir(f"{self._folder}/{name}") if _NAME.fullmatch(name) else None  # noqa: PTH208 - for each mail
        except (FileNotFoundError, NotADirectoryError):
            names = None
        if names is None:
            near = _did_you_mean(name, self.names())
            raise TemplateMissing(f'no template "{name}"{near} (looked in {self._folder}/)')
        return {file.lower().replace("_", "-"): f"{name}/{file}" for file in names}

    def _text(self, file: _File, variables: Mapping[str, Any]) -> str:
        try:
            template = self._jinja.get_template(file.path)
            return _bounded(template.generate({"locale": file.locale, **variables}), file.path)
        except TemplateFault:
            raise
        except Exception as error:
            # A template is code: what it raises is a fault of the template. Errors of the disk are not.
            if isinstance(error, OSError) and not isinstance(error, TemplateNotFound):
                raise
            # from None: the error's own text may quote a variable, which no log may show.
            lines = self._lines(error)
            source = "\n".join([file.path, *map(self._source, lines)])
            where = _where(lines, file.path)
            raise TemplateFault(f"{where}: {self._what(error, variables, source)}") from None

    def _lines(self, error: Exception) -> dict[str, int]:
        """The template files in the error's traceback with their lines, the deepest last."""
        lines: dict[str, int] = {}
        # Jinja2 puts the templates' names and lines into the traceback, also for syntax errors.
        for frame, line in traceback.walk_tb(error.__traceback__):
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(self._folder):
                name = file.relative_to(self._folder).as_posix()
                lines.pop(name, None)
                lines[name] = line
        return lines

    def _source(self, path: str) -> str:
        try:
            return (self._folder / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _what(self, error: Exception, variables: Mapping[str, Any], source: str) -> str:
        match error:
            case TemplateSyntaxError():  # raised before a variable was looked at
                return str(error.message)
            case UndefinedError():
                return _undefined(error.message or "", variables, source)
            case TemplateNotFound():
                name = f'no file "{error.name}"' if _stands_in(source, str(error.name)) else "no file of that name"
                return f"{name} (looked in {self._folder}/)"
            case MemoryError():
                return "it needs too much memory"
            case RecursionError():
                return "it includes or calls itself without end"
            case TemplateError() | TypeError() | ArithmeticError():
                message = str(error.message if isinstance(error, TemplateError) else error)
                return message if _quotes_only(source, message) else f"{type(error).__name__} in an expression"
            case _:
                return f"{type(error).__name__} in an expression"

    def _inlined(self, html: str, path: str) -> str:
        if _is_too_deep(html):
            raise TemplateFault(f"{path}: more than {DEEPEST} elements are open at once; is one never closed?")
        try:
            return self._inliner.inline(html)
        except (InlineError, UnicodeError) as error:
            raise TemplateFault(f"{path}: its styles cannot be inlined ({type(error).__name__})") from None


def _is_too_deep(html: str) -> bool:
    """Whether elements are nested too deeply, as far as their tags show that: a parser closes some by itself."""
    if html.count("<") <= DEEPEST:
        return False
    open_ones = Counter[str]()
    depth = 0
    for end, written in _TAG.findall(html):
        name = written.lower()
        if _CLOSED_BY_OTHERS.fullmatch(name):
            continue
        if not end:
            open_ones[name] += 1
            depth += 1
            if depth > DEEPEST:
                return True
        elif open_ones[name]:
            open_ones[name] -= 1
            depth -= 1
    return False


class _Inside(FileSystemLoader):
    """Reads no file outside its folder, not even through a link."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        try:
            source = super().get_source(environment, template)
        except UnicodeDecodeError:
            raise TemplateRuntimeError(f"{template} is not UTF-8; save it as UTF-8") from None
        if not Path(source[1]).resolve().is_relative_to(Path(self.searchpath[0]).resolve()):
            raise SecurityError(f"{template} is a link that leaves the folder; put the file itself there")
        return source


class _Sandbox(ImmutableSandboxedEnvironment):
    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """What every template sees. A plain dict, for Jinja makes one of it for each file of each mail."""
        return {**self.globals, **(d or {})}

    # A mistake, or a large number in the variables, must not fill the worker's memory before the output is measured.
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise SecurityError("** is not available in templates")
        for sequence, times in ((left, right), (right, left)):
            repeats = isinstance(sequence, (str, list, tuple)) and isinstance(times, int)
            if repeats and len(sequence) * times > MAX_RANGE:
                raise SecurityError(f"a repetition to more than {MAX_RANGE} elements")
        return super().call_binop(context, operator, left, right)


def _not_null(value: object) -> object:
    if value is None:
        raise TemplateRuntimeError("a null would be written; guard it with `if`, or give it a |default(…, true)")
    return value


def _date(value: object, pattern: str = "%d %B %Y") -> str:
    try:
        return datetime.fromisoformat(str(value)).strftime(pattern)
    except ValueError:
        raise TemplateRuntimeError("date: not an ISO 8601 time such as 2026-11-22T09:30:00Z") from None


def _pick(files: Mapping[str, str], part: str, locale: str | None) -> _File | None:
    stem, suffix = part.split(".")
    tag = (locale or "").lower().replace("_", "-")
    while tag:
        if path := files.get(f"{stem}.{tag}.{suffix}"):
            return _File(path, tag)
        tag = tag.rpartition("-")[0]
    return _File(files[part], "") if part in files else None


def _bounded(pieces: Iterable[str], path: str) -> str:
    written, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise TemplateFault(f"{path}: more than {MAX_CHARACTERS} characters; no mailbox takes such a mail")
        written.append(piece)
    return "".join(written)


def _where(lines: dict[str, int], path: str) -> str:
    """The line in the template's own file; and the line in the extended or called file where the error was raised."""
    own = f"{path} line {lines[path]}" if path in lines else path
    deepest = next(reversed(lines), path)
    return own if deepest == path else f"{own} (in {deepest} line {lines[deepest]})"


def _undefined(message: str, variables: Mapping[str, Any], source: str) -> str:
    near = ""
    if not _quotes_only(source, message):
        message = "it reads an attribute or element that is not there, by a name that an expression gives"
    elif (missing := _MISSING.search(message)) and (names := _near(missing[1], _keys(variables))):
        near = f'; but there is "{names[0]}"'  # either of the two may have the typo
    return f"{message}{near} (variables given: {', '.join(variables) or 'none'})"


def _quotes_only(source: str, message: str) -> bool:
    """Whether each quoted text in the message occurs in the templates. Any other one may be a variable's value."""
    quoted = re.split(r"['\"]", _TYPE.sub("", message))[1::2]
    return all(_stands_in(source, name) for name in (*quoted, *_ELEMENT.findall(message)))


def _stands_in(source: str, name: str) -> bool:
    """Whether this is a word in the source, or has no letters or digits (an operator)."""
    return not re.search(r"\w", name) or bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source))


def _keys(value: object) -> Iterator[str]:
    """The names in a JSON value, at any depth."""
    if isinstance(value, Mapping):
        yield from value
    if isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _keys(inner)


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = _near(name, names)
    return f'; did you mean "{near[0]}"?' if near else ""


def _near(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(names), n=1)


def _one_line(subject: str, path: str) -> str:
    subject = subject.strip()
    if not subject:
        raise TemplateFault(f"{path}: the subject is empty")
    if _CONTROL.search(subject):
        raise TemplateFault(f"{path}: a line break or control character in the subject; keep it on one line")
    return subject
