"""The settings: from TOML, the environment or code."""
