"""The worker: it makes the deliveries of a journal, and records the attempts."""
