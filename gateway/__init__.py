"""The HTTP side (FastAPI): requests go to the inbox, replies come back through Redis. Never imports Ray.

Read in this order: `app` (all of it put together), `direct` (a shorter way to what is asked most), `gateway` (what the
routes of a process share), `routes_events`, `routes_runs`, `routes_values`, `routes_streams`, `routes_letters` and
`routes_health` (what there is), `calls` (a request on its way) with `bridge` (from a waiting caller to a worker and
back), `ingest` (many events), `hearing` and `listening` with `value_watch`, `following` and `turns` (what is told as
it comes), `tickets`, `problems` with `problem_types` (what is refused), `idempotency`, `validation`, `bodies` and
`preferences` (what callers send), `documented` with `openapi` (what is said of it), `cors` (pages in browsers),
`serving` with `protocol` (servers), `ending` (their end).
"""

if __name__ != "headrace.gateway":
    raise ImportError(f"import headrace.gateway, not {__name__}: a second copy would have its own classes")
