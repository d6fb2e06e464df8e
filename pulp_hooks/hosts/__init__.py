"""Hosts that ship with the package: applications that fire the four event types."""
