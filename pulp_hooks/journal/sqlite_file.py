"""The SQLite file of a journal: how it is created and set up, and how writers wait for each other.

Nothing here opens or closes the file itself, only SQLite does. Closing any descriptor of a file drops every POSIX lock
that the process holds on it, those of all its SQLite connections included, and the next writer corrupts the file
(sqlite.org, "How To Corrupt An SQLite Database File", 2.2).
"""

import errno
import os
import random
import re
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import NullPool

from pulp_hooks.errors import JournalError
from pulp_hooks.forks import FileIdentity, inherited_files
from pulp_hooks.journal.opening import READS

_BUSY_SECONDS = "pulp_hooks_busy_seconds"
"""Execution option of the engine: how long somebody waits who wants to write while others do."""

_WAITS = "pulp_hooks_waits"
"""Key of what is known of a connection: how long SQLite itself waits for others; seconds."""

_LOOKS = 0.0002, 0.002
"""Between these numbers of seconds lies the pause before the next look whether somebody else still writes."""

_LOOK_SECONDS = 0.1
"""How often it is looked at most whether the file was removed or replaced."""

_CREATION_SECONDS = 1.0
"""How long another process may take between naming a file that it creates and removing the file's first name."""

_LOG_PAGES = 8000
"""How long the write-ahead log grows before SQLite carries it over into the file; pages of 4 KiB.

By default a thousand, which a fire of a few pages reaches so often that it pays for pages that the next one changes.
"""

_PAGE_BYTES = 4096

_RESERVE_BYTES = 4 * 2**20
"""How much of the disk events leave free for recording deliveries and pruning."""

_LARGE_WRITE_BYTES = 2**18
"""More than a write adds to the log, but for one of many rows; so often the space is looked at when it gets scarce."""

_RESERVED_PART = 4
"""Of a small disk it is this part."""

_WRITE_LOCK = 120
"""Offset of the lock for writing in the shared memory of a write-ahead log."""

_NO_LINK = frozenset({errno.EEXIST, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""Why a new file may get no name by a hard link although it can be created."""

_NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|coda|davfs|glusterfs|lustre|gpfs|ocfs2|beegfs|"
    r"fuse\.(sshfs|glusterfs\w*|rclone|s3fs|davfs2?|ceph|ceph-fuse|juicefs|gcsfuse|smbnetfs)"
)


class Synchronous(StrEnum):
    """How far SQLite waits for the disk.

    Attributes:
        NORMAL: What was committed survives the death of every process, but the last moments not that of the machine.
        FULL: What was committed also survives a power cut; each commit waits for the disk.
    """

    NORMAL = "NORMAL"
    FULL = "FULL"


class SqliteFile:
    """A journal in one file.

    Attributes:
        path: The file.
    """

    def __init__(self, url: URL, name: str, synchronous: Synchronous, busy_seconds: float) -> None:
        self.path = Path(str(url.database)).absolute()
        self._url = url
        self._name = name
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._identity: FileIdentity | None = None
        # The files that are not mount points of their own, by their paths.
        self._unmounted: dict[Path, FileIdentity] = {}
        self._unpooled: Engine
        self._look_due = 0.0
        self._room_due, self._unlooked = 0.0, 0

    def engine(self) -> Engine:
        """Return an engine for the file; create the file if there is none, else leave it as it is.

        Raises:
            JournalError: The folder is missing or on a network file system, the file has a second name, or this process
                inherited it open from its parent.
            OSError: The file cannot be created.
            sqlite3.Error: SQLite cannot open it.
        """
        self.check_folder()
        # SQLite names the write-ahead log after the path that it is given: every process has to use the same one.
        path = Path(os.path.realpath(self.path))
        _create(path)
        self._refuse_second_name(path)
        self._identity = identity_of(path)
        self._refuse_inherited()
        self._unpooled = self._connecting(path, poolclass=NullPool)
        # SQLAlchemy makes the first connection of an engine under a lock, for which an event that is fired in the
        # middle of it (in a signal handler, a `__del__` method) would wait for ever.
        self.connect().close()
        # Connections are cheap, and a limit would be another thing to wait for.
        return self._connecting(path, max_overflow=-1)

    def connect(self) -> PoolProxiedConnection:
        """Return a new connection that belongs to no pool, after `engine`.

        An exception of a signal handler in the middle of the pool's Python code could leave its lock held for ever.
        """
        return self._unpooled.raw_connection()

    def _connecting(self, path: Path, **pool: Any) -> Engine:  # noqa: ANN401 - what SQLAlchemy takes
        engine = create_engine(
            self._url.set(database=str(path)),
            connect_args={"timeout": self._busy_seconds, "check_same_thread": False},
            hide_parameters=True,
            paramstyle="named",
            execution_options={_BUSY_SECONDS: self._busy_seconds},
            **pool,
        )
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", self._begin)
        return engine

    def looking_engine(self) -> Engine:
        """Return an engine that only reads, and leaves no file beside the database, which may be another program's."""
        path = Path(os.path.realpath(self.path))
        # A reader of a write-ahead log creates one where there is none. Without one nobody has the file open to write.
        in_use = any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal"))
        uri = f"{path.as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
        return create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, timeout=self._busy_seconds), poolclass=NullPool
        )

    def is_in_place(self) -> bool:
        """Return whether the file is still the one that `engine` connects to, and nobody has removed or replaced it.

        It is looked at ten times a second at most: a look at each of many fires would cost as much as to insert a row.
        """
        now = time.monotonic()
        if now < self._look_due:
            return True
        is_there = identity_of(self.path) == self._identity
        if is_there:
            self._look_due = now + _LOOK_SECONDS
        return is_there

    def keep_room(self, connection: PoolProxiedConnection) -> None:
        """Refuse an event that would use up the space that is needed to record deliveries and to prune.

        SQLite writes to its log before it frees anything, so a journal on a full disk could not be emptied any more.

        Args:
            connection: A connection without a transaction.

        Raises:
            JournalError: The disk is full but for that space.
        """
        if not self._makes_room(connection):
            raise JournalError(
                f"the journal {self._name} could not take the event: the disk is full, but for what is kept to record "
                "deliveries and to prune; fix: free space on the disk, or run `pulp-hooks prune`"
            )

    def _makes_room(self, connection: PoolProxiedConnection) -> bool:
        """Keep the log short while the disk is nearly full; return whether there is room for events."""
        now = time.monotonic()
        if now < self._room_due and self._unlooked > 0:
            self._unlooked -= 1
            return True
        if self._surplus(connection) < 0:
            _carry_over(connection)
        surplus = self._surplus(connection)
        self._room_due, self._unlooked = now + _LOOK_SECONDS, surplus // _LARGE_WRITE_BYTES
        return surplus >= 0

    def _surplus(self, connection: PoolProxiedConnection) -> int:
        """Return how many bytes there are for events; negative when the reserve is touched."""
        disk = os.statvfs(self.path.parent)
        reserve = min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVED_PART)
        size, pages, unused = (_pragma(connection, name) for name in ("page_size", "page_count", "freelist_count"))
        # The last pages are only in the log so far, and will need room in the file.
        growth = max(0, pages * size - self.path.stat().st_size)
        left: int = disk.f_bavail * disk.f_frsize - growth
        # What was pruned is free space inside the file; then half of the reserve is for the log.
        return max(left - reserve, min(left - reserve // 2, unused * size - reserve // 2))

    def check_connection(self, connection: Connection) -> None:
        """Check that a host's connection is one to this file, and safe to use in this process.

        Raises:
            JournalError: It is a connection to another file, the file has a second name, or this process inherited it
                open from its parent.
        """
        self._refuse_inherited()
        files = [Path(row.file) for row in connection.exec_driver_sql("PRAGMA database_list") if row.name == "main"]
        if not files or identity_of(files[0]) != identity_of(self.path):
            raise JournalError(
                f"the connection is to another database ({', '.join(map(str, files))}), not to the journal {self._name}"
            )
        for path in {Path(os.path.realpath(name)) for name in (self.path, files[0])}:
            self._refuse_second_name(path)

    def check_folder(self) -> None:
        """Find out whether the file may be in its folder.

        Raises:
            JournalError: There is no such folder, or it is on a network file system.
        """
        folder = self.path.parent
        if not folder.is_dir():
            raise JournalError(f"the journal {self._name} could not be opened: there is no folder {folder}")
        kind = _file_system(folder.resolve())
        if _NETWORK_FILE_SYSTEMS.fullmatch(kind):
            raise JournalError(
                f"the journal {self._name} could not be opened: {folder} is on a network file system ({kind}), where "
                "SQLite loses data; put it on a local disk, or use PostgreSQL"
            )

    def _refuse_inherited(self) -> None:
        if identity_of(self.path) in inherited_files():
            raise JournalError(
                f"the journal {self._name} cannot be used in this process: its file was open when the process was "
                "forked, and SQLite does not survive that; fix: fork before the file is opened, or spawn the process"
            )

    def _refuse_second_name(self, path: Path) -> None:
        """Raise `JournalError` for a file with two names: each name would have a write-ahead log of its own."""
        deadline = time.monotonic() + _CREATION_SECONDS
        # A file that another process creates has two names for a moment.
        while (names := (found := path.stat()).st_nlink) > 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        identity = found.st_dev, found.st_ino
        is_mounted = self._unmounted.get(path) != identity and path in _mounts()
        if names == 1 and not is_mounted:
            self._unmounted[path] = identity
        else:
            why = f"has {names} names (hard links)" if names > 1 else "is mounted as a single file"
            remedy = "remove the other names" if names > 1 else "mount its folder"
            raise JournalError(
                f"the journal {self._name} cannot be used: its file {why}, and SQLite loses data when it is used by "
                f"two of them; fix: {remedy} while nobody uses the journal"
            )

    def begin_immediate(
        self, connection: PoolProxiedConnection, cursor: DBAPICursor, on_busy: Callable[[], None] = lambda: None
    ) -> None:
        """Begin to write as soon as nobody else does.

        SQLite's own waiting would sleep for up to 100 ms between two looks, and let latecomers overtake.

        Raises:
            sqlite3.OperationalError: Others write for longer than `busy_seconds`.
        """
        _wait_in_sqlite(connection, 0)
        deadline = 0.0
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                now = time.monotonic()
                if not deadline:
                    on_busy()
                    deadline = now + self._busy_seconds
                if now > deadline:
                    self._explain_busy()
                    raise
                time.sleep(random.uniform(*_LOOKS))  # noqa: S311 - nobody gains by guessing it
            else:
                return

    def _explain_busy(self) -> None:
        """Raise `JournalError` if the writer that was waited for is a transaction of this process.

        SQLite does not tell. Linux lists the locks of each process, and the one for writing is byte 120 of the shared
        memory file (sqlite.org, "WAL-mode File Format", 2.3.1).
        """
        memory = identity_of(self.path.with_name(self.path.name + "-shm"))
        with suppress(OSError):  # not Linux
            locks = Path("/proc/locks").read_text("utf-8")
            own = rf"POSIX +ADVISORY +WRITE +{os.getpid()} +\S+:{memory[1] if memory else ''} +{_WRITE_LOCK} "
            if re.search(own, locks):
                raise JournalError(
                    f"the journal {self._name} is locked by a transaction of this process, for more than "
                    f"{self._busy_seconds:g} s; fix: pass its connection as connection=, or commit before you fire"
                )

    def _set_up(self, connection: sqlite3.Connection, _record: object) -> None:
        # The driver must not begin transactions on its own: one that begins by reading fails at once when it writes.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self._synchronous.value}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        # Readers of one old state keep the log from being carried over; it shrinks again when they are gone.
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * _PAGE_BYTES}")

    def _begin(self, connection: Connection) -> None:
        # Whoever means to write says so at once, and then waits for its turn.
        if connection.get_execution_options().get(READS, False):
            _wait_in_sqlite(connection.connection, self._busy_seconds)
            connection.connection.cursor().execute("BEGIN")
        else:
            self._makes_room(connection.connection)
            self.begin_immediate(connection.connection, connection.connection.cursor())


def turn_on_write_ahead_log(engine: Engine) -> None:
    """Let those who read a journal not wait for those who write it; the file keeps that.

    Raises:
        sqlite3.Error: The file cannot be set up.
    """
    # Here SQLite does not always wait for the others that open the new file at the same time.
    deadline = time.monotonic() + engine.get_execution_options()[_BUSY_SECONDS]
    while True:
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
        finally:
            connection.close()


def roll_back(connection: PoolProxiedConnection) -> None:
    """End the transaction of a connection, if it has one."""
    # An error of the disk may have ended the transaction already.
    with suppress(sqlite3.Error):
        connection.cursor().execute("ROLLBACK")


def _pragma(connection: PoolProxiedConnection, text: str) -> int:
    """Return the first value that a PRAGMA answers with."""
    cursor = connection.cursor()
    try:
        (value, *_) = cursor.execute(f"PRAGMA {text}").fetchall()[0]
    finally:
        # Should it be interrupted, what keeps the cursor alive must not keep the state of the database that it reads.
        cursor.close()
    return int(value)


def _carry_over(connection: PoolProxiedConnection) -> None:
    """Carry the write-ahead log over into the file and give its space back, as far as readers and the disk allow."""
    _wait_in_sqlite(connection, 0)
    with suppress(sqlite3.Error):
        _pragma(connection, "wal_checkpoint(TRUNCATE)")


def _wait_in_sqlite(connection: PoolProxiedConnection, seconds: float) -> None:
    """Say how long SQLite itself waits for others, where that is not what was said before."""
    if connection.info.get(_WAITS) != seconds:
        _pragma(connection, f"busy_timeout = {int(seconds * 1000)}")
        connection.info[_WAITS] = seconds


def identity_of(path: Path) -> FileIdentity | None:
    """Return device and inode of a file; null where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create(path: Path) -> None:
    """Create an empty file that its owner alone may read, if there is none.

    SQLite would let everybody read it; the write-ahead log takes the mode of the file. It is closed before it gets its
    name, so that no thread of this process can have locked it yet.
    """
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.link(new, path)
    except OSError as error:
        # Another process was quicker, or the file system has no hard links: then SQLite creates the file.
        if error.errno not in _NO_LINK:
            raise
    finally:
        new.unlink()


def _mounts() -> dict[Path, str]:
    """Return the type of the file system at each mount point; nothing where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return {}
    kinds = {}
    for line in lines:
        _device, point, kind, *_ = line.split(" ")
        # Blanks and the like are written as octal numbers; a later mount hides an earlier one.
        kinds[Path(re.sub(r"\\([0-7]{3})", lambda number: chr(int(number[1], 8)), point))] = kind
    return kinds


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder; empty where the system does not tell."""
    kinds = _mounts()
    return next((kinds[parent] for parent in (folder, *folder.parents) if parent in kinds), "")
