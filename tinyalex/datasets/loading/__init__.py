"""Batches: order, crops, reflections and colours, made in background threads."""
