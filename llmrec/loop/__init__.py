"""What every training loop shares: schedule, optimizer, checkpoint, progress, stopping, status."""
