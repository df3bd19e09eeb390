"""What setting up leaves here: the certificate's file, and a marked block in `.env` or `postroom.toml`."""

import re
from dataclasses import dataclass
from pathlib import Path

from postroom.setup.certificates import write_private
from postroom.setup.errors import SetupError
from postroom.setup.wanted import slug

_SETTINGS = ("POSTROOM_TENANT_ID", "POSTROOM_CLIENT_ID", "POSTROOM_CLIENT_CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one app: its certificate (PEM, with the key), and the settings that name it.

    A settings file that ends with `.toml` gets a table `[apps.NAME]`, another one the settings of the app "default".
    """

    name: str
    certificate: Path
    settings: Path

    @property
    def _block(self) -> re.Pattern[str]:
        return re.compile(rf"\n?{re.escape(self._begin)}\n.*?{re.escape(self._end)}\n", re.DOTALL)

    @property
    def _begin(self) -> str:
        return f"# postroom setup {slug(self.name)}: begin"

    @property
    def _end(self) -> str:
        return f"# postroom setup {slug(self.name)}: end"

    def settings_name(self, app_id: str) -> bool:
        """Whether the block is there, and names this app and the certificate's file."""
        found = self._block.search(self._text())
        return found is not None and app_id in found[0] and self._certificate_text() in found[0]

    def settings_faults(self) -> list[str]:
        """Why the block cannot be written: other lines of the file set the same."""
        rest = self._block.sub("", self._text())
        if self.settings.suffix == ".toml":
            table = f"[apps.{slug(self.name)}]"
            return [f"{self.settings} has a table {table} already"] if table in rest else []
        set_already = [name for name in _SETTINGS if re.search(rf"^\s*(export\s+)?{name}\s*=", rest, re.MULTILINE)]
        return [f"{self.settings} sets {name} already" for name in set_already]

    def write_settings(self, tenant_id: str, app_id: str) -> None:
        """Writes the block, in place of an older one. Raises SetupError where other lines set the same."""
        if faults := self.settings_faults():
            hint = "remove it, or name another file with --settings (postroom.toml for a further app)"
            raise SetupError(f"{'; '.join(faults)}: {hint}")
        rest = self._block.sub("", self._text())
        gap = "\n" if rest and not rest.endswith("\n") else ""
        block = "\n".join((self._begin, *self.lines(tenant_id, app_id), self._end))
        text = f"{rest}{gap}{block}\n"
        mode = self.settings.stat().st_mode & 0o777 if self.settings.exists() else 0o600
        write_private(self.settings, text.encode())
        self.settings.chmod(mode)

    def lines(self, tenant_id: str, app_id: str) -> list[str]:
        """The settings as lines of the file."""
        values = (tenant_id, app_id, self._certificate_text())
        if self.settings.suffix == ".toml":
            names = ("tenant_id", "client_id", "client_certificate")
            rows = [f'{name} = "{value}"' for name, value in zip(names, values, strict=True)]
            return [f"[apps.{slug(self.name)}]", *rows]
        return [f"{name}={value}" for name, value in zip(_SETTINGS, values, strict=True)]

    def remove(self) -> list[str]:
        """Removes the block and the certificate's file; returns what was removed."""
        removed = []
        text = self._text()
        if self._block.search(text):
            rest = self._block.sub("", text)
            if rest.strip():
                mode = self.settings.stat().st_mode & 0o777
                write_private(self.settings, rest.encode())
                self.settings.chmod(mode)
            else:
                self.settings.unlink()
            removed.append(f"the settings in {self.settings}")
        beside = (self.certificate.with_name(f"{self.certificate.name}{end}") for end in (".next", ".old", ".lock"))
        for path in (self.certificate, *beside):  # a rotation leaves the others
            if path.exists():
                path.unlink()
                removed.append(f"the file {path}")
        return removed

    def _certificate_text(self) -> str:
        return self.certificate.resolve().as_posix()

    def _text(self) -> str:
        try:
            return self.settings.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
