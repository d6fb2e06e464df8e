"""The transaction of a host in which an event was stored."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection


class HostTransaction:
    """The transaction that a host's connection is in.

    Args:
        connection: The host's connection; anything else has no transaction.
    """

    __slots__ = ("_async_connection", "_connection", "_transaction")

    def __init__(self, connection: "Connection | AsyncConnection") -> None:
        given: Any = connection
        self._async_connection: AsyncConnection | None = given if hasattr(given, "sync_connection") else None
        self._connection: Connection | None = getattr(
            given, "sync_connection", given if hasattr(given, "exec_driver_sql") else None
        )
        self._transaction = self._connection.get_transaction() if self._connection else None

    def roll_back(self) -> bool:
        """Roll the transaction back if it is still open, and return whether it was."""
        if self._connection is None or self._connection.closed or self._connection.invalidated:
            return False
        if self._transaction is not None and self._transaction.is_active:
            self._transaction.rollback()
            return True
        if not self._connection.in_transaction():
            # When a commit fails, SQLite keeps the transaction and its lock, and SQLAlchemy does not roll it back.
            self._connection.connection.rollback()
        return False

    async def aroll_back(self) -> bool:
        """Do what `roll_back` does, for an asynchronous connection too."""
        if self._async_connection is None or self._async_connection.closed:
            return self.roll_back()
        return await self._async_connection.run_sync(lambda _: self.roll_back())
