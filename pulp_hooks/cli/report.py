"""Printing what became of an event at the listeners."""

import json

import click

from pulp_hooks.cli.output import echo_json, echo_table
from pulp_hooks.dispatch.outcomes import Report, Status

_COLOURS: dict[str, str] = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.QUEUED: "cyan",
    Status.NOT_QUEUED: "red",
}


def echo_report(report: Report, *, as_json: bool, with_detail: bool = False) -> None:
    """Print the outcome for each listener.

    Args:
        report: The report.
        as_json: Whether programs read it; then it has the event and all details.
        with_detail: Whether people see the details, too.
    """
    if as_json:
        keys = ("listener", "hook", "status", "seconds", "error", "detail")
        outcomes = [{key: getattr(outcome, key) for key in keys} for outcome in report.outcomes]
        echo_json({"event": report.event.to_dict(), "outcomes": outcomes})
        return
    rows = [[x.listener, x.hook, x.status, f"{x.seconds:.3f}", x.error or ""] for x in report.outcomes]
    echo_table(["LISTENER", "HOOK", "STATUS", "SECONDS", "ERROR"], rows, _COLOURS)
    for outcome in report.outcomes:
        if with_detail and outcome.detail is not None:
            click.echo(json.dumps(outcome.detail, indent=2, ensure_ascii=True))
