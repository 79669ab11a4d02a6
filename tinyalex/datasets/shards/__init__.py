"""The format of a prepared data set on disk."""
