"""A notifier for pulp_hooks: sends each event as a signed webhook; and `verify`, for those who receive it."""

from pulp_hooks_http.notifier import DeliveryError, Webhook
from pulp_hooks_http.receiving import SeenIds, VerificationError, Verified, verify

__all__ = ["DeliveryError", "SeenIds", "VerificationError", "Verified", "Webhook", "verify"]
