"""The worker: it delivers what the journal keeps, and records how that went."""
