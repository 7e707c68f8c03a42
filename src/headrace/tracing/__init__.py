"""Traces by OpenTelemetry: what is asked for (`options`), and their way out of a process (`exporting`).

What is traced, and what is noted of it, is decided in `headrace.workflows.tracing`, which knows nothing of it.
Only `spans`, `exporting` and `current` need its packages (`pip install "headrace[otel]"`).
"""
