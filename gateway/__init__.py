"""The HTTP side (FastAPI): requests go to the inbox, replies come back through Redis. Never imports Ray."""

if __name__ != "headrace.gateway":
    raise ImportError(f"import headrace.gateway, not {__name__}: a second copy would have its own classes")
