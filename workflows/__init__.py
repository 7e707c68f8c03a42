"""What a workflow is and what an epoch does: plain Python, no Ray, Kafka, Redis or HTTP.

Read in this order: `events`, `actions`, `nodes` (what users write), `handles` and `workflow` (how they
connect it), `plan` (the compiled graph), `runner` (one unit processes one call), `epoch` and `partition`
(the sans-IO core), `commit` (what an epoch leaves behind).
"""

if __name__ != "headrace.workflows":
    raise ImportError(f"import headrace.workflows, not {__name__}: a second copy would have its own classes")
