"""Training runs that may take days: the run folder, its log and checkpoints, resuming, stopping, fine-tuning."""
