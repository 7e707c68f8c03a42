"""Speed, cost and memory, measured: one module a measurement, run by `make bench`."""
