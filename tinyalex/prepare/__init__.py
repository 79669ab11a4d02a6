"""One-time work: from image files of any layout to shards."""
