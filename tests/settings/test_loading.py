import sys
from pathlib import Path

import pytest

from postroom.access.smtp_logins import hashed
from postroom.errors import ConfigError
from postroom.jobs.retry import OnUnknown
from postroom.settings.loading import load_settings
from postroom.settings.model import Credential, Settings
from postroom.settings.values import duration, rates, size

HERE = Path("/nonexistent")
REDIS = {"POSTROOM_REDIS_URL": "redis://localhost:6379/0"}
APP = {"POSTROOM_TENANT_ID": "t", "POSTROOM_CLIENT_ID": "c"}


def faults(environ: dict[str, str], folder: Path = HERE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, folder)
    return list(caught.value.faults)


def test_a_producer_needs_only_where_redis_is() -> None:
    found = load_settings(REDIS, HERE)

    assert (found.redis_url, found.sender, found.rate, found.parallel) == (
        REDIS["POSTROOM_REDIS_URL"],
        None,
        ((30, 60.0),),
        4,
    )


def test_an_app_goes_where_the_environment_says_unless_it_has_a_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(
        '[apps.hr]\n[apps.gov]\ncloud = "dod"\n[apps.near]\ngraph_url = "https://near.example"\n'
    )
    urls = {"POSTROOM_GRAPH_URL": "https://g.example", "POSTROOM_AUTHORITY_URL": "https://a.example"}

    found = load_settings(REDIS | urls | {"POSTROOM_CLOUD": "usgov"}, tmp_path).all_apps

    places = {name: (str(app.cloud), app.graph_url, app.authority_url) for name, app in found.items()}
    assert places["hr"] == places["default"] == ("usgov", "https://g.example", "https://a.example")
    assert places["gov"] == ("dod", None, None)
    assert places["near"] == ("usgov", "https://near.example", "https://a.example")


def test_all_faults_are_named_at_once_each_with_the_nearest_right_name() -> None:
    found = faults({"POSTROOM_REDISS_URL": "x", "POSTROOM_LEASE": "5s", "POSTROOM_RATE": "much"})

    assert found[0] == "POSTROOM_REDISS_URL is not a setting (POSTROOM_REDIS_URL?)"
    assert sorted(said.split()[0].strip(":") for said in found[1:]) == [
        "POSTROOM_LEASE",
        "POSTROOM_RATE",
        "POSTROOM_REDIS_URL",
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE", "5s", "at least 10 s are needed"),
        ("BACKOFF", "0s", "longer than 0 s is needed"),
        ("MAX_MESSAGE", "900MB", "1MB to 150MB are possible"),
        ("MAX_ATTEMPTS", "0", "a whole number from 1 to 1000 is needed"),
        ("PARALLEL", "2.5", "a whole number from 1 to 4 is needed"),
        ("DAILY_RECIPIENTS", "1e4", "a whole number from 1 to 10000 is needed"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console'"),
        ("TENANT_ID", "https://contoso.com/", "the directory's id (a GUID) or one of its domains is needed"),
    ],
)
def test_an_error_names_the_possible_values_with_their_unit(name: str, value: str, said: str) -> None:
    [found] = faults(REDIS | {f"POSTROOM_{name}": value})

    assert found.startswith(f"POSTROOM_{name}: {said}")


@pytest.mark.parametrize(
    "name",
    [
        "POSTROOM_SERVICE_HOST",
        "POSTROOM_SERVICE_PORT",
        "POSTROOM_SERVICE_PORT_HTTP",
        "POSTROOM_PORT",
        "POSTROOM_PORT_8080_TCP",
        "POSTROOM_PORT_8080_TCP_ADDR",
        "POSTROOM_API_SERVICE_HOST",
        "POSTROOM_API_PORT_443_TCP_PROTO",
    ],
)
def test_names_that_kubernetes_injects_are_no_settings_and_no_faults(name: str) -> None:
    assert load_settings(REDIS | {name: "tcp://10.0.0.1:80"}, HERE)


def test_a_setting_that_is_empty_is_not_set() -> None:
    assert load_settings(REDIS | {"POSTROOM_SENDER": ""}, HERE).sender is None


def test_a_secret_may_stand_in_a_file_and_shows_in_no_repr(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame\n")

    found = load_settings(REDIS | {"POSTROOM_CLIENT_CERTIFICATE_PASSWORD_FILE": str(tmp_path / "secret")}, HERE)

    assert found.client_certificate_password is not None
    assert found.client_certificate_password.get_secret_value() == "sesame"
    assert "sesame" not in repr(found)


def test_a_password_in_the_redis_url_shows_in_no_repr() -> None:
    assert "sesame" not in repr(load_settings({"POSTROOM_REDIS_URL": "redis://:sesame@redis:6379/0"}, HERE))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "localhost:6379",
            "give redis://, rediss://, redis+sentinel://, rediss+sentinel:// or embedded:DIR, as in redis://localhost:6379/0",
        ),
        (
            "embedded:",
            "give redis://, rediss://, redis+sentinel://, rediss+sentinel:// or embedded:DIR, as in redis://localhost:6379/0",
        ),
        ("redis://h/1?db=2", "the database is one number, as in redis://localhost:6379/0"),
        ("redis://h/one", "the database is one number, as in redis://localhost:6379/0"),
        ("redis://h/1/2", "the database is one number, as in redis://localhost:6379/0"),
        ("unix:///s?db=-1", "the database is one number, as in redis://localhost:6379/0"),
        ("redis://h?socket_timeout=1", "the parameter socket_timeout is not understood; redis:// takes db"),
        ("unix:///s?virtual_host=1", "the parameter virtual_host is not understood; unix:// takes db"),
        (
            "redis+sentinel://h/post?ssl_ca_certs=x",
            (
                "the parameter ssl_ca_certs is not understood; "
                "redis+sentinel:// takes db, sentinel_username, sentinel_password"
            ),
        ),
        ("rediss://h?ssl_ca_certs=/none.pem", "ssl_ca_certs: cannot read the file /none.pem"),
        ("unix://run/s", "give the whole path of the socket, as in unix:///run/redis/redis.sock"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of required, optional, none"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname is one of true, false, 1, 0"),
    ],
)
def test_a_redis_url_that_not_all_libraries_read_alike_is_refused(url: str, told: str) -> None:
    assert faults({"POSTROOM_REDIS_URL": url}) == [f"POSTROOM_REDIS_URL: {told}"]


@pytest.mark.parametrize("password", ["ses/ame", "ses?ame", "ses?ame=x", "ses#ame", "ses[ame", "ses]ame:"])
def test_a_password_that_breaks_its_url_is_reported_without_being_shown(password: str) -> None:
    (told,) = faults({"POSTROOM_REDIS_URL": f"redis://:{password}@redis:6379/0"})

    assert told.startswith("POSTROOM_REDIS_URL: cannot be read; in a name or password, write / as %2F")
    assert "ses" not in told


def test_a_missing_secret_file_is_named() -> None:
    assert faults(REDIS | {"POSTROOM_CLIENT_CERTIFICATE_PASSWORD_FILE": "/nowhere"}) == [
        "POSTROOM_CLIENT_CERTIFICATE_PASSWORD_FILE: cannot read /nowhere (No such file or directory)"
    ]


@pytest.mark.parametrize("name", ["POSTROOM_CLIENT_SECRET", "POSTROOM_CLIENT_CERTIFICATE"])
def test_a_place_in_a_key_vault_that_is_none_is_named(name: str) -> None:
    (fault,) = faults(REDIS | {name: "keyvault:https://shop.vault.azure.net/keys/mail"})
    assert fault.startswith(f"{name}: keyvault:https://VAULT.vault.azure.net/secrets/NAME")


def test_a_dotenv_file_fills_in_what_the_environment_leaves_open(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTROOM_REDIS_URL=redis://dotenv\nPOSTROOM_SENDER=a@b.de\n")

    found = load_settings({"POSTROOM_REDIS_URL": "redis://environment"}, tmp_path)

    assert (found.redis_url, found.sender) == ("redis://environment", "a@b.de")


def test_a_fault_in_the_dotenv_file_says_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTROOM_REDISS_URL=x\n")

    assert faults(REDIS, tmp_path) == ["POSTROOM_REDISS_URL is not a setting (POSTROOM_REDIS_URL?) (in .env)"]


def test_postroom_toml_is_read_where_it_lies_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text('[senders."a@b.de"]\nparallel = 1\n')

    assert [sender.parallel for sender in load_settings(REDIS, tmp_path).senders.values()] == [1]


def test_azures_own_names_are_understood_and_ours_win() -> None:
    azure = {
        "AZURE_TENANT_ID": "azure",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s",
        "AZURE_AUTHORITY_HOST": "login.microsoftonline.us/",
    }

    found = load_settings(REDIS | azure | {"POSTROOM_TENANT_ID": "ours"}, HERE)

    assert (found.tenant_id, found.client_id, found.kind) == ("ours", "c", Credential.SECRET)
    assert found.authority_url == "https://login.microsoftonline.us"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"CLIENT_SECRET": "s"}, Credential.SECRET),
        ({"CLIENT_CERTIFICATE": "c.pem"}, Credential.CERTIFICATE),
        ({"CREDENTIAL": "managed-identity"}, Credential.MANAGED_IDENTITY),
        ({"CLIENT_SECRET": "s", "CLIENT_CERTIFICATE": "c.pem", "CREDENTIAL": "certificate"}, Credential.CERTIFICATE),
        ({}, None),
    ],
)
def test_the_kind_of_credential_is_found_by_itself(given: dict[str, str], kind: Credential | None) -> None:
    assert load_settings(REDIS | {f"POSTROOM_{name}": value for name, value in given.items()}, HERE).kind is kind


def test_a_worker_says_what_it_lacks_beyond_a_producer(tmp_path: Path) -> None:
    lacking = load_settings(REDIS | {"POSTROOM_TEMPLATES": str(tmp_path / "none")}, HERE).worker_faults()

    assert [said.split()[0].strip(":") for said in lacking] == [
        "POSTROOM_CLIENT_SECRET",
        "POSTROOM_TENANT_ID",
        "POSTROOM_CLIENT_ID",
        "POSTROOM_TEMPLATES",
    ]
    complete = REDIS | APP | {"POSTROOM_CLIENT_SECRET": "s", "POSTROOM_TEMPLATES": str(tmp_path)}
    assert load_settings(complete, HERE).worker_faults() == []


def test_the_cas_to_trust_are_a_file_or_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    complete = REDIS | APP | {"POSTROOM_CLIENT_SECRET": "s"}

    for there in (tmp_path, tmp_path / "ca.pem"):
        assert load_settings(complete | {"POSTROOM_CA_BUNDLE": str(there)}, HERE).worker_faults() == []
    assert load_settings(complete | {"POSTROOM_CA_BUNDLE": "/nowhere"}, HERE).worker_faults() == [
        "POSTROOM_CA_BUNDLE: no file or folder /nowhere"
    ]


def test_curl_is_a_fault_only_where_it_is_asked_for_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = REDIS | APP | {"POSTROOM_CLIENT_SECRET": "s"}
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pycurl", raising=False)

    for told in ({}, {"POSTROOM_TRANSPORT": "requests"}):
        assert load_settings(complete | told, HERE).worker_faults() == []
    assert load_settings(complete | {"POSTROOM_TRANSPORT": "curl"}, HERE).worker_faults() == [
        "POSTROOM_TRANSPORT: curl needs pycurl; pip install 'postroom[curl]'"
    ]


def toml(folder: Path, text: str) -> Settings:
    (folder / "postroom.toml").write_text(text)
    return load_settings(REDIS | {"POSTROOM_CONFIG": "postroom.toml"}, folder)


def test_senders_and_apps_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame")
    found = toml(
        tmp_path,
        f"""
        [apps.hr]
        tenant_id = "t"
        client_id = "c"
        client_secret_file = "{tmp_path}/secret"
        [senders."HR@contoso.com"]
        app = "hr"
        aliases = ["people@contoso.com"]
        rate = "10/min, 500/day"
        parallel = 2
        on_unknown = "hold"
        """,
    )

    sender = found.senders["HR@contoso.com"]  # type: ignore[index]
    assert (sender.app, sender.rate, sender.parallel) == ("hr", ((10, 60.0), (500, 86400.0)), 2)
    assert sender.on_unknown is OnUnknown.HOLD
    assert found.all_apps["hr"].kind is Credential.SECRET


def test_wrong_names_in_the_file_are_faults_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        toml(tmp_path, '[senders."a@b.de"]\naliass = []\n[app.x]\n[apps.y]\ntenant = "t"\n')

    assert sorted(caught.value.faults) == [
        f"{tmp_path}/postroom.toml: [app] is not a table of this file (apps, senders, smtp)",
        '[apps."y"] tenant: is not a setting (tenant_id?)',
        '[senders."a@b.de"] aliass: is not a setting (aliases?)',
    ]


HASH = hashed("sesame")


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ('[smtp.shop]\nsenders = ["*"]', '[smtp."shop"]: needs either password_hash or networks'),
        (
            f'[smtp.shop]\nsenders = ["*"]\npassword_hash = "{HASH}"\nnetworks = ["::1"]',
            '[smtp."shop"]: needs either password_hash or networks',
        ),
        (
            '[smtp.shop]\nsenders = ["*"]\npassword_hash = "sesame"',
            '[smtp."shop"]: password_hash is none; `postroom smtp password` prints one',
        ),
        ('[smtp.shop]\nnetworks = ["::1"]', '[smtp."shop"] senders: Field required'),
        ('[smtp.shop]\nnetworks = ["::1"]\nsenders = ["*contoso.com"]', '[smtp."shop"] senders.0: not an address: '),
        ('[smtp.shop]\nnetworks = ["here"]\nsenders = ["*"]', "[smtp.\"shop\"] networks: 'here' does not appear to be"),
        (
            '[smtp.shop]\npasword_hash = "x"\nsenders = ["*"]',
            '[smtp."shop"] pasword_hash: is not a setting (password_hash?)',
        ),
    ],
)
def test_a_client_of_the_smtp_door_has_one_way_in_and_its_senders(tmp_path: Path, rows: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toml(tmp_path, rows + "\n")
    assert any(told.startswith(fault) for told in caught.value.faults), caught.value.faults
    assert "sesame" not in str(caught.value)


def test_the_smtp_door_needs_somebody_who_may_use_it_and_a_certificate_where_there_is_tls(tmp_path: Path) -> None:
    assert "POSTROOM_SMTP_ALLOW is missing" in toml(tmp_path, "").smtp_faults(over_tls=False)[0]
    by_password = toml(tmp_path, f'[smtp.shop]\nsenders = ["*"]\npassword_hash = "{HASH}"\n')
    assert by_password.smtp_faults(over_tls=False) == [
        "POSTROOM_SMTP_CERTIFICATE is missing: passwords are taken over TLS"
    ]
    assert HASH not in repr(by_password)
    by_network = toml(tmp_path, '[smtp.net]\nsenders = ["a@b.de"]\nnetworks = ["10.0.0.1"]\n')
    assert by_network.smtp_faults(over_tls=False) == []
    assert by_network.smtp_faults(over_tls=True) == ["POSTROOM_SMTP_CERTIFICATE is missing: --tls-port needs it"]
    login = by_network.logins.of_network("10.0.0.1")
    assert login
    assert (login.name, login.senders, by_network.logins.by_password) == ("net", ("a@b.de",), False)


def test_a_sender_of_an_app_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \[apps.hr\]"):
        toml(tmp_path, '[senders."a@b.de"]\napp = "hr"\n')


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("5min", 300.0), ("72h", 259200.0), ("7d", 604800.0), ("1h30min", 5400.0), ("250ms", 0.25)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "min", "5 parsecs", "5s!", "-5s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 5min"):
        duration(text)


@pytest.mark.parametrize(("text", "count"), [("35MB", 36_700_160), ("1.5 mb", 1_572_864), ("2048kB", 2_097_152)])
def test_a_size_is_a_number_and_a_unit(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "35", "MB", "35GB", "-1MB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="35MB"):
        size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30/min", ((30, 60.0),)), ("off", ()), ("2/s,10000/day", ((2, 1.0), (10000, 86400.0))), ("5/10s", ((5, 10.0),))],
)
def test_rates_are_counts_per_time(text: str, expected: tuple[tuple[int, float], ...]) -> None:
    assert rates(text) == expected


@pytest.mark.parametrize("url", ["http://graph", "https://graph.microsoft.com/v1.0", "ftp://x", ""])
def test_a_root_url_is_https_without_a_path(url: str) -> None:
    if url:
        assert faults(REDIS | {"POSTROOM_GRAPH_URL": url})[0].startswith("POSTROOM_GRAPH_URL: give the root only")
