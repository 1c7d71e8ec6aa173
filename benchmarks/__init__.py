"""What the package costs and how exact it is, measured: ``python -m benchmarks``."""
