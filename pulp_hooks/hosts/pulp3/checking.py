"""Checking whether a server can be watched, and by which user."""

from dataclasses import dataclass, field

from pulp_hooks.errors import PulpError
from pulp_hooks.hosts.pulp3.client import PulpClient, component_versions, results
from pulp_hooks.hosts.pulp3.lookups import Lookups
from pulp_hooks.hosts.pulp3.tasks import Kind, Reference, created, read_task
from pulp_hooks.settings.model import PulpSettings

TASK_ROLE = "core.task_viewer"
"""The role without which a user sees no tasks."""

_CONSEQUENCES = {
    "repository_viewer": "`repo_id` is a PRN, and filters by name or label match no such repository",
    "remote_viewer": "`importer_id` is a UUID",
    "publication_viewer": "a publish within another task has the times of that task",
}
"""What is missing in events, by a part of the role that the user lacks."""

_SAMPLE = 100
"""Tasks that are looked at to find missing roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found out about one domain of a server.

    Attributes:
        server: Name of the server.
        domain: Name of the domain.
        error: Why it cannot be watched; null if it can.
        versions: Versions of pulpcore and of its plugins.
        has_domains: Whether the server has domains.
        clock_difference_seconds: How far the server's clock is ahead of this machine's; 0 within a second, null if the
            server does not tell.
        repositories: Number of repositories that the user sees and the settings select.
        hidden_repositories: Number of other repositories that the user sees.
        tasks: Number of tasks that the user sees.
        missing_roles: Roles without which the user does not see what it should.
    """

    server: str
    domain: str
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    has_domains: bool = False
    clock_difference_seconds: float | None = None
    repositories: int = 0
    hidden_repositories: int = 0
    tasks: int = 0
    missing_roles: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the domain can be watched, with all rights that were needed so far."""
        return self.error is None and not self.missing_roles


def check(settings: PulpSettings, domain: str) -> Check:
    """Log in to one domain of a server, and find out what would be watched."""
    client = PulpClient(settings, domain)
    try:
        status = client.connect()
        difference = client.clock_difference()
        tasks = client.get("tasks/", {"fields": "pulp_href", "limit": "1"})
        repositories = results(client.get("repositories/", {"fields": "pulp_href,name,pulp_labels", "limit": "100000"}))
        wanted = [one for one in repositories if settings.wants(str(one.get("name")), one.get("pulp_labels") or {})]
        return Check(
            server=client.name,
            domain=domain,
            versions=component_versions(status),
            has_domains=bool(status.get("domain_enabled")),
            clock_difference_seconds=difference,
            repositories=len(wanted),
            hidden_repositories=len(repositories) - len(wanted),
            tasks=int(tasks.get("count") or 0),
            missing_roles=tuple(missing_roles(client, settings, Lookups(client))),
        )
    except PulpError as error:
        return Check(server=client.name, domain=domain, error=str(error))
    finally:
        client.close()


def missing_roles(client: PulpClient, settings: PulpSettings, lookups: Lookups) -> list[str]:
    """Return the roles without which a user does not see what the latest tasks refer to.

    A user without a role for a type gets empty lists, not errors. Types of which everything was deleted look the same,
    and a server without tasks like one whose tasks the user must not see.

    Args:
        client: The server, as this user.
        settings: Which tasks are syncs and publishes.
        lookups: Look-ups as this user.

    Raises:
        PulpError: The server does not answer.
    """
    rows = client.get("tasks/", {"ordering": "-pulp_created", "limit": str(_SAMPLE)})
    tasks = [read_task(shown, settings.sync_tasks, settings.publish_tasks) for shown in results(rows)]
    if not tasks:
        return [TASK_ROLE]
    events = [task for task in tasks if task.kind is not Kind.OTHER or task.publications]
    lookups.prepare(events)
    seen: dict[str, bool] = {}

    def note(found: Reference | None, *, is_visible: bool) -> None:
        if found is not None:
            seen[found.model] = seen.get(found.model, False) or is_visible

    for task in events:
        repository = lookups.repository_of(task)
        note(repository, is_visible=repository is not None and lookups.is_known(repository))
        if task.kind is Kind.SYNC and (remote := lookups.remote_of(task)):
            note(remote, is_visible=lookups.is_known(remote))
        # Before the end of its task, the server hides a publication from everybody.
        for found in created(task) if task.kind is Kind.SYNC and task.state == "completed" else ():
            if found.model.endswith("publication"):
                note(found, is_visible=lookups.is_known(found))
    return sorted(f"{model}_viewer" for model, is_visible in seen.items() if not is_visible)


def lacking(role: str) -> str:
    """Return what a user without a role does not see."""
    if role == TASK_ROLE:
        return f"no task is visible: the server has none yet, or the user lacks the role {role}"
    consequence = next(text for part, text in _CONSEQUENCES.items() if part in role)
    return f"the user lacks the role {role}; {consequence}"
