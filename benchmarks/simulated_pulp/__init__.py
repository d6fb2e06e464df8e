"""Simulated Pulp 3 servers that sync and publish each of their repositories every ten minutes, and their REST API."""
