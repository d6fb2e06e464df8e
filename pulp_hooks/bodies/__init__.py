"""The bodies of the four events: their types, their rules, and the one way from what a host passes to JSON."""
