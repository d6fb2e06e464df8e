"""Tests of `pulp-hooks watch` without a server."""

import subprocess
import sys
from pathlib import Path


def test_watching_nothing_says_what_to_do(tmp_path: Path, environment: dict[str, str]) -> None:
    """Without a URL and without a `[[pulp]]` table, the message names the file, or that there is none."""
    settings = tmp_path / "pulp-hooks.toml"
    command = [sys.executable, "-m", "pulp_hooks", "watch"]
    for place in ("there is no pulp-hooks.toml here", f"{settings} has no [[pulp]] table"):
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert f"no server to watch: {place}; fix: pass a URL, or add a [[pulp]] table" in ended.stderr
        assert ended.returncode == 2
        settings.write_text("")
