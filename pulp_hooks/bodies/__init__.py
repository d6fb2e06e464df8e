"""The bodies of the four events: types, validation rules, and serialization to JSON."""
