"""The README of the notifier: its settings are valid, its table is complete, its receiver works."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pulp_hooks_http import Webhook
from pulp_hooks_http.keys import parse_key, signed_content

from pulp_hooks import Hooks

from .receivers import SECRET

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("settings", blocks("toml"))
def test_settings_of_the_readme_are_valid(settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each listener can be built, once the variables are set."""
    for name in re.findall(r'env = "(\w+)"', settings):
        monkeypatch.setenv(name, SECRET)
    path = tmp_path / "pulp-hooks.toml"
    path.write_text(re.sub(r"\[journal\]\n.*\n", "", settings), encoding="utf-8")
    monkeypatch.setenv("PULP_HOOKS_BLOCK", "console")
    with Hooks.discover(path) as hooks:
        assert hooks.problems == ()
        configured = [listener for listener in hooks.listeners if listener.kind == "configured"]
    assert [str(listener.state) for listener in configured] == ["loaded"] * settings.count("[[listeners]]")


def test_every_key_is_documented_with_its_default() -> None:
    """In the table of the README."""
    rows = dict(re.findall(r"^\| (`.*?) \|.*\| (.*?) \|$", README.partition("## What is sent")[0], re.MULTILINE))
    shown = {key: default for keys, default in rows.items() for key in re.findall(r"`(\w+)`", keys)}
    fields = Webhook.Config().fields
    assert shown.keys() == fields.keys()
    loaded = Webhook.configured(url="https://hooks.example.org/").config
    for key, default in shown.items():
        if default.startswith("`") or default.isdigit():
            text = default.strip("`")
            assert str(loaded[key]) == text or float(loaded[key]) == float(text)
        else:
            assert fields[key].required or loaded[key] is None


def test_receiver_of_the_readme_processes_each_event_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second delivery of an event is recognized."""
    monkeypatch.chdir(tmp_path)
    [code] = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 - the code of the README
    receive = names["receive"]
    assert callable(receive)
    timestamp = str(int(time.time()))
    signature = parse_key(SECRET).signature_of(signed_content("e1", timestamp, b"{}"))
    headers = {"webhook-id": "e1", "webhook-timestamp": timestamp, "webhook-signature": signature}
    receive(b"{}", headers, SECRET)
    receive(b"{}", headers, SECRET)
    assert capsys.readouterr().out == "process b'{}'\n"


def test_port_of_the_receiver_that_is_in_use_is_said() -> None:
    """Without a traceback, and with what helps."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        command = [sys.executable, "-m", "pulp_hooks_http", "CI_SECRET", "--port", str(used.getsockname()[1])]
        variables = os.environ | {"CI_SECRET": SECRET}
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "cannot be used" in ended.stderr
