"""Files, locks, signals and hashes; nothing here knows a network."""
