"""The file mirror: syncs a file repository into a folder, publishes it there, and fires the four event types."""

from pulp_hooks.hosts.file_mirror.downloads import Progress, VerifyProgress
from pulp_hooks.hosts.file_mirror.mirror import MirrorResult, mirror

__all__ = ["MirrorResult", "Progress", "VerifyProgress", "mirror"]
