"""Measurements, each a ratio to a floor or a peer in the same run: machines differ, and are noisy."""
