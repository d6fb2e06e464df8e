"""The settings: which plugins may load, and which listeners are configured."""
