"""An example body of each event type, which `pulp-hooks fire` sends by default."""

from typing import Any

from pulp_hooks.event_types import EventType

EXAMPLES: dict[EventType, dict[str, Any]] = {
    EventType.REPO_SYNC_STARTED: {"repo_id": "pulp-f17"},
    EventType.REPO_SYNC_FINISHED: {
        "importer_type_id": "yum_importer",
        "importer_id": "yum_importer",
        "exception": None,
        "repo_id": "pulp-f17",
        "removed_count": 1,
        "started": "2012-07-06T15:49:11Z",
        "_ns": "repo_sync_results",
        "completed": "2012-07-06T15:49:14Z",
        "traceback": None,
        "summary": {"packages": {"state": "FINISHED", "num_success": 3, "num_error": 0}, "errata": {"num_errata": 2}},
        "added_count": 3,
        "error_message": None,
        "updated_count": 0,
        "details": {"packages": {"size_total": 868952, "error_details": []}},
        "id": "4ff7413a8a905b777d000072",
        "result": "success",
    },
    EventType.REPO_PUBLISH_STARTED: {"repo_id": "pulp-f17", "distributor_id": "yum_distributor"},
    EventType.REPO_PUBLISH_FINISHED: {
        "exception": None,
        "repo_id": "pulp-f17",
        "started": "2012-07-06T15:53:41Z",
        "_ns": "repo_publish_results",
        "completed": "2012-07-06T15:53:43Z",
        "traceback": None,
        "distributor_type_id": "yum_distributor",
        "summary": {"packages": {"state": "FINISHED", "num_success": 3, "num_error": 0}},
        "error_message": None,
        "details": None,
        "distributor_id": "yum_distributor",
        "id": "4ff742478a905b777d00008b",
        "result": "success",
    },
}
"""The example of each event type. Copy an example before you change it."""
