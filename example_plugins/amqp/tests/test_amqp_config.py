"""The configuration of the AMQP notifier: mistakes are found before anything connects, and shown without the URL."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from marshmallow import ValidationError
from pulp_hooks_amqp import Amqp
from pulp_hooks_amqp.config import address_of

from pulp_hooks.formats import Format

URL = "amqp://someone:secret-password@rabbit.example"
TLS = "amqps://someone:secret-password@rabbit.example"


def test_defaults_are_as_documented() -> None:
    """Only `url` is required."""
    assert Amqp.configured(url=URL).config == {
        "url": URL,
        "ca_path": None,
        "certificate_path": None,
        "key_path": None,
        "exchange": "amq.topic",
        "format": Format.CLOUDEVENTS,
        "unroutable": "fail",
        "timeout": 15.0,
    }


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://h", (False, "h", 5672, "guest", "guest", "/")),
        ("amqps://h", (True, "h", 5671, "guest", "guest", "/")),
        ("amqp://h:99/", (False, "h", 99, "guest", "guest", "/")),
        ("amqp://h//", (False, "h", 5672, "guest", "guest", "/")),
        ("amqp://u:p%40%2F%3A@h/%2Fv%2Fw", (False, "h", 5672, "u", "p@/:", "/v/w")),
        ("amqp://u@[::1]:99/v", (False, "::1", 99, "u", "", "v")),
    ],
)
def test_url_is_taken_apart(url: str, address: tuple[object, ...]) -> None:
    """Parts are percent-decoded, and missing parts have RabbitMQ's defaults."""
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret-password",
        "http://u:secret-password@h",
        "amqp://",
        "amqp://u:secret-password@",
        "amqp://u:secret-password@h:port",
        "amqp://u:secret-password@h:0",
        "amqp://u:secret-password@h:65536",
        "amqp://u:secret/password@h",
        "amqp://u:secret#password@h",
        "amqp://u:secret?password@h",
        "amqp://u:secret-pässword@h",
        "amqp://u:secret password@h",
        "amqp://u:secret-password@[h",
        "amqp://u:secret-password@h\n",
        "amqp://u:secret-password@h?heartbeat=5",
        "amqp://u:secret-password@h/a/b",
        "amqp://u:secret-password%FF@h",
        "amqp://u:secret-password@h/" + "v" * 256,
    ],
)
def test_wrong_url_is_refused_without_showing_it(url: str) -> None:
    """Neither the message nor its causes show a part of a password, however it is misplaced."""
    with pytest.raises(ValidationError) as caught:
        Amqp.configured(url=url)
    assert list(caught.value.messages_dict) == ["url"]
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        assert "password%" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ({}, {"url": ["is missing"]}),
        ({"url": 5}, {"url": ["must be text"]}),
        ({"url": URL, "exchange": ""}, {"exchange": ["must be 1 to 127 bytes of printable text"]}),
        ({"url": URL, "exchange": "ä" * 64}, {"exchange": ["must be 1 to 127 bytes of printable text"]}),
        ({"url": URL, "exchange": "a\r\nb"}, {"exchange": ["must be 1 to 127 bytes of printable text"]}),
        ({"url": URL, "unroutable": "drop"}, {"unroutable": ["must be 'fail' or 'accept'"]}),
        ({"url": URL, "timeout": 0}, {"timeout": ["must be more than 0 and at most 3600 seconds"]}),
        ({"url": URL, "timeout": 3601}, {"timeout": ["must be more than 0 and at most 3600 seconds"]}),
        ({"url": URL, "ca_path": "ca.pem"}, {"ca_path": ["needs a url that begins with amqps://"]}),
        ({"url": TLS, "key_path": "key.pem"}, {"key_path": ["needs certificate_path"]}),
        ({"url": URL, "exchnge": "x"}, {"exchnge": ["Unknown field."]}),
    ],
)
def test_wrong_configuration_is_refused(config: dict[str, object], messages: dict[str, list[str]]) -> None:
    """The schema says of each key what is wrong with it."""
    with pytest.raises(ValidationError) as caught:
        Amqp.configured(**config)
    assert caught.value.messages == messages


@pytest.mark.parametrize("value", ["nan", "inf", float("nan"), float("inf")])
def test_timeout_is_a_finite_number(value: object) -> None:
    """No configuration makes a wait endless."""
    with pytest.raises(ValidationError):
        Amqp.configured(url=URL, timeout=value)


@pytest.mark.parametrize("key", ["ca_path", "certificate_path"])
def test_file_that_is_missing_or_of_another_kind_is_refused(key: str, tmp_path: Path) -> None:
    """The message has the path."""
    path = tmp_path / "file.pem"
    with pytest.raises(ValueError, match=r"file\.pem cannot be read"):
        Amqp.configured(url=TLS, **{key: str(path)})
    path.write_text("nothing")
    with pytest.raises(ValueError, match=rf"{key}: .*file\.pem"):
        Amqp.configured(url=TLS, **{key: str(path)})


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    """A certificate works only with its own key."""
    one, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    one.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    other.private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(ValueError, match=r"certificate\.pem, with the key in .*key\.pem"):
        Amqp.configured(url=TLS, certificate_path=str(tmp_path / "certificate.pem"), key_path=str(tmp_path / "key.pem"))


def test_check_finds_a_url_in_the_settings_file(tmp_path: Path) -> None:
    """The URL is a secret: with the file's text as its value the listener is refused, and not shown."""
    settings = f'[[listeners]]\nname = "broker"\nnotifier = "amqp"\nconfig.url = "{URL}"\n'
    (tmp_path / "pulp-hooks.toml").write_text(settings)
    command = [sys.executable, "-m", "pulp_hooks", "check", "--json"]
    check = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert check.returncode == 1
    assert "config.url" in json.dumps(json.loads(check.stdout)["problems"])
    assert "secret-password" not in check.stdout + check.stderr
