"""A PostgreSQL for the benchmarks: the server that `PULP_HOOKS_TEST_POSTGRESQL` names, as for the tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url

_SERVER = make_url(os.environ.get("PULP_HOOKS_TEST_POSTGRESQL", "postgresql://root@/test?host=/var/run/postgresql"))


def url_of(schema: str) -> str:
    """Return the URL under which this schema is all there is."""
    url = _SERVER.set(drivername="postgresql").update_query_dict({"options": f"-csearch_path={schema}"})
    return url.render_as_string(hide_password=False)


@contextmanager
def schema(name: str) -> Iterator[str]:
    """Yield the URL of a new schema, which is dropped after the block.

    Raises:
        sqlalchemy.exc.OperationalError: There is no server.
    """
    engine = create_engine(
        _SERVER.set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": 3},
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        yield url_of(name)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()
