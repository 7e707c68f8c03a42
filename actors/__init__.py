"""Ray shells around the core: worker, node, supervisor; the Redis store, relay and placement."""

if __name__ != "headrace.actors":
    raise ImportError(f"import headrace.actors, not {__name__}: a second copy would have its own classes")
