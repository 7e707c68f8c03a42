"""Crash points, under the name that actors import them by; see `headrace.workflows.effects`."""

from headrace.workflows.effects import CRASH_POINTS, STEPS, CrashPlan, Effect, arm, effect, kill_process, plan_of, point

__all__ = ["CRASH_POINTS", "STEPS", "CrashPlan", "Effect", "arm", "effect", "kill_process", "plan_of", "point"]
