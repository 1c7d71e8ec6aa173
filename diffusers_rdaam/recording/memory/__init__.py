"""The memory cost of a run's records, known before the run."""
