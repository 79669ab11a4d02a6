"""Pictures of a trained run: nearest images, binary codes, and which figures can be drawn from a run folder."""
