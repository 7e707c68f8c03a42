"""`check` and `graph`: look at a workflow without running it."""

from __future__ import annotations

from typing import Literal

from rich.text import Text

from headrace.actors.loading import WorkflowImportError, load_workflow
from headrace.cli.exits import ExitCode
from headrace.cli.screen import Screen
from headrace.workflows.errors import Problem, WorkflowError
from headrace.workflows.plan import PART, Plan
from headrace.workflows.workflow import Workflow


def check(target: str, screen: Screen, *, as_json: bool = False) -> ExitCode:
    """Import a workflow and say everything that is wrong with it."""
    try:
        _, workflow = load_workflow(target)
    except WorkflowImportError as error:
        if not as_json:
            raise
        screen.json({
            "target": target, "ok": False, "error": error.sentence, "traceback": error.traceback, "problems": [],
        })  # fmt: skip
        return ExitCode.PROBLEMS
    plan, problems = _compiled(workflow)
    if as_json:
        rows = [_row(problem) for problem in problems]
        screen.json({"target": target, "workflow": workflow.name, "ok": not problems, "problems": rows})
    elif plan is not None:
        screen.say(f"{workflow.name}: {_parts(plan)}, no problems.", "green")
    else:
        _show(workflow.name, problems, screen)
    return ExitCode.PROBLEMS if problems else ExitCode.OK


def graph(target: str, screen: Screen, *, form: Literal["mermaid", "dot"], as_json: bool = False) -> ExitCode:
    """Print the picture of a workflow, or its parts and ways for programs; also of one with problems."""
    _, workflow = load_workflow(target)
    if as_json:
        screen.json(workflow.outline())
    else:
        screen.raw(workflow.mermaid() if form == "mermaid" else workflow.graphviz())
    return ExitCode.OK


def _compiled(workflow: Workflow) -> tuple[Plan | None, list[Problem]]:
    try:
        return workflow.compile(), []
    except WorkflowError as error:
        return None, error.problems


def _row(problem: Problem) -> dict[str, str | int]:
    file, _, line = problem.where.rpartition(":")
    return {
        "file": file or problem.where,
        "line": int(line) if line.isdecimal() else 0,
        "subject": problem.subject,
        "code": problem.code,
        "message": problem.message,
        "cure": problem.cure,
    }


def _parts(plan: Plan) -> str:
    written = [node for node in plan.nodes if PART not in node.name]
    counts = (("source", plan.sources), ("node", written), ("sink", plan.sinks))
    return ", ".join(f"{len(parts)} {name}{'' if len(parts) == 1 else 's'}" for name, parts in counts)


def _show(workflow: str, problems: list[Problem], screen: Screen) -> None:
    count = len(problems)
    screen.say(f"{workflow}: {count} problem{'' if count == 1 else 's'}", "bold red")
    for problem in problems:
        line = Text.assemble(
            (problem.where, "cyan"),
            "  ",
            (problem.subject, "bold"),
            f": {problem.message}. ",
            (problem.cure, "green"),
            (f"  [{problem.code}]", "dim"),
        )
        screen.write(line)
    screen.say(f"More: headrace explain {problems[0].code}", "dim")
