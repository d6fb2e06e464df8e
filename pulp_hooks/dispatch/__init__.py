"""Calling listeners: who is called for an event, private copies, the guard of each call, and what became of it."""
