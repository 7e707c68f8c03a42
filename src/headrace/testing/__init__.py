"""The test kit: a workflow in one process, in virtual time, on the same core that runs it on a cluster.

Read `harness.py` first, it is all that users need; `engine.py` drives the core, `inputs.py` holds what was
sent, `views.py` shows runs, `thread.py` is where the user's nodes run.
"""

from headrace.testing.executed import Executed, ExecutionFailed
from headrace.testing.harness import Harness, Sent
from headrace.testing.problems import HarnessError
from headrace.testing.views import RunView
from headrace.workflows.state_review import StatesLost

__all__ = ["Executed", "ExecutionFailed", "Harness", "HarnessError", "RunView", "Sent", "StatesLost"]
