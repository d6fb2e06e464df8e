"""The URL of a journal: how it is read, and what of it may be shown."""

import re
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pulp_hooks.errors import JournalError
from pulp_hooks.text import REDACTED

_ESCAPES = "write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25 in user name and password"

HARMLESS = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "gssencmode", "host"),
        *("hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname"),
        *("load_balance_hosts", "passfile", "port", "require_auth", "requirepeer", "service", "sslcert"),
        *("ssl_max_protocol_version", "ssl_min_protocol_version", "sslcertmode", "sslcrl", "sslcrldir", "sslkey"),
        *("sslmode", "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout", "user"),
    }
)
"""Options of a PostgreSQL URL that hold no secrets."""

_SECRET = frozenset({"password", "sslpassword", "oauth_client_secret"})
"""Options of a PostgreSQL URL that hold secrets. Of all others not even the names are shown: they may be a mistake."""

_SEARCH_PATH = re.compile(r"-c\s*search_path=[\w$\", ]+")
_CONNECTION_STRING = re.compile("=|://")
"""What only a name has that is a whole connection string with its password."""


def journal_url(text: str) -> URL:
    """Return the URL of a SQLite file or of a PostgreSQL database.

    Raises:
        JournalError: It is neither. The message repeats no part of it, because any part may be one of a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise JournalError(
            "the journal's URL cannot be read; fix: write sqlite:///folder/journal.db or "
            f"postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and {_ESCAPES}; several hosts are "
            "?host=A:5432&host=B:5432"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.drivername not in {"sqlite", "sqlite+pysqlite"} or url.query or _authority(url):
            raise JournalError("the journal's URL of a SQLite file is sqlite:///PATH, without user, host and options")
        if not url.database or url.database == ":memory:":
            raise JournalError("the journal's URL names no file: what is only in memory is lost with the process")
        return url
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise JournalError("the journal's URL must begin with sqlite:/// or postgresql://")
    # What follows the first of two would be taken for the host, shown, and looked up in the DNS.
    if text.count("@") > 1:
        raise JournalError(f"the journal's URL has more than one @; fix: {_ESCAPES}")
    # The @ of an option is taken for the one before the host where there is a port: host:5432/db?password=a@b
    in_option = re.search(r"\?.*=.*@", text)
    if ("@" in text and url.username is None) or in_option or "@" in f"{url.host} {url.query.get('host')}":
        raise JournalError(f"the journal's URL has an @ that ends no user name and password; fix: {_ESCAPES}")
    return url.set(drivername="postgresql+psycopg")


def _authority(url: URL) -> bool:
    return any(part is not None for part in (url.username, url.password, url.host, url.port))


def shown(url: URL) -> tuple[str, list[str]]:
    """Return a URL as messages show it, and the secrets in it."""
    shown_options: dict[str, str | tuple[str, ...]] = {}
    secrets = [str(url.password or "")]
    for name, value in url.query.items():
        values = [value] if isinstance(value, str) else value
        if name == "options":
            harmless = all(map(_SEARCH_PATH.fullmatch, values))
        else:
            harmless = name in HARMLESS and not any(map(_CONNECTION_STRING.search, values))
        if harmless:
            shown_options[name] = value
            continue
        known = name in HARMLESS | _SECRET | {"options"}
        shown_options[name if known else REDACTED] = REDACTED
        secrets += values if known else [name, *values]
    database = url.database
    # SQLAlchemy decodes it from 2.1 on.
    if database and url.get_backend_name() == "postgresql" and _CONNECTION_STRING.search(unquote(database)):
        secrets.append(database)
        database = REDACTED
    plain = url.set(drivername=url.get_backend_name(), database=database, query=shown_options)
    return plain.render_as_string(hide_password=True).replace("%2A", "*"), secrets
