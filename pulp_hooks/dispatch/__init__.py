"""Calling listeners: the registry, private copies of events, the guard of each call, outcomes, events in flight."""
