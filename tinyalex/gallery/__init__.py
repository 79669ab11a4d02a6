"""What a trained run can show: nearest images, binary codes, and which figures it has data for."""
