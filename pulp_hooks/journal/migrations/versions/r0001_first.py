"""The schema of the first release, which every journal has at least: new ones are created by `schema.metadata`."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: there is no older journal."""
