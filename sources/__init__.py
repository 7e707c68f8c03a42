"""Where events come from and where they leave to."""

if __name__ != "headrace.sources":
    raise ImportError(f"import headrace.sources, not {__name__}: a second copy would have its own classes")
