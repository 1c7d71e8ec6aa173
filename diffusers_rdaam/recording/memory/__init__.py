"""What a run's records take, known before it."""
