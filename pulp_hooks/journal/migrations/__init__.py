"""Alembic revisions of the journal's tables, numbered from 0001 on.

Each changes the schema of one release into that of the next, in a way that the release before can still work on: it
adds tables, columns that may be null, and indexes. One that cannot be so sets `readable_from` in the table
`pulp_hooks_journal` to its own number: then older releases refuse the journal and say so.
"""
