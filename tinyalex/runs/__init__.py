"""Training runs of days: the run folder, its log and checkpoints, resuming, stopping, fine-tuning."""
