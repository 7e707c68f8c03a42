# Each of the last seven lines is wrong.
from joining import both, deciding, decisions, failures, judging, scoring, stocking, workflow

from headrace import Complete

other = workflow.join(stocking, scoring)
other.to(deciding)
both.to(judging)
both.to(decisions)
both.on(Complete)
scoring.to(both)
workflow.join(scoring, stocking, when="most")
workflow.join(scoring).to(failures)
