"""Files, locks, signals and hashes; nothing here depends on networks or training."""
