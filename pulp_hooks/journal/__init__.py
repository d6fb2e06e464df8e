"""The journal: a database that keeps every event and each of its deliveries until it is made."""
