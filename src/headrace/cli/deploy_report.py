"""What `deploy` says: what it will do, how far it is, what has become of it; for people, or as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer

from headrace.actors.bundle import Bundle
from headrace.actors.changes import Change
from headrace.actors.machine_check import Finding
from headrace.actors.spec import ClusterStatus, Deployment
from headrace.cli.exits import Interrupted, UsageError
from headrace.cli.screen import Screen
from headrace.sources.connection import address_of
from headrace.workflows.state_review import StateReview

_SHOWN: Final = 12
"""Files of a bundle that are named; the others are counted."""


class Report:
    """Collects and shows one deployment.

    Args:
        screen: Where it is shown.
        as_json: Show nothing until the end, then one document.
    """

    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self.screen = screen
        self._as_json = as_json
        self._document: dict[str, Any] = {}
        self._said = ""

    def plan(
        self,
        name: str,
        target: str,
        after: Deployment,
        bundle: Bundle,
        changes: Sequence[Change],
        missing: Sequence[str],
    ) -> None:
        """What is to be deployed, and how it differs from what was."""
        self._document = {
            "workflow": name, "version": after.code.version, "address": after.address, "cluster": after.cluster,
            "partitions": after.partitions, "durability": after.durability,
            "workers": after.workers, "state": "", "changes": list(changes),
            "files": bundle.files, "topics_missing": list(missing), "topics_made": [],
        }  # fmt: skip
        self._say(f"{name}  {target}  version {after.code.version}  {after.partitions} partitions", "bold")
        self._say(f"  Ray    {after.address}  (cluster {after.cluster})")
        self._say(f"  Redis  {address_of(after.redis_url)}  durability {after.durability}")
        if after.kafka:
            self._say(f"  Kafka  {after.kafka.get('bootstrap_servers', '')}")
        self._say(f"  Code   {_files(bundle)}")
        units = ", ".join(f"{unit.name} x{unit.replicas}" for unit in after.units) or "inside the workers"
        self._say(f"  Runs   {after.workers} worker{'' if after.workers == 1 else 's'}; nodes: {units}")
        if missing:
            self._say(f"  Topics to be made: {', '.join(missing)}", "cyan")
        for change in changes:
            self._say(f"  ~ {change}", "cyan")

    def machines(self, findings: Sequence[Finding]) -> None:
        """What the cluster's machines said."""
        self._document["machines"] = list(findings)
        hosts = ", ".join(finding.host for finding in findings)
        self._say(f"  Hosts  {hosts}: code, libraries and servers are in reach", "green")

    def unchanged(self, status: ClusterStatus | None) -> None:
        """It runs as it would be deployed."""
        self._document["state"] = "unchanged"
        self._document["status"] = status
        self._say(f"{self._document['workflow']} runs as it is here: nothing to change.", "green")

    def dry_run(self) -> None:
        """Nothing was touched."""
        self._document["state"] = "dry-run"
        self._say("Nothing was changed (--dry-run).")

    def states_so_far(self, runs: int) -> None:
        """States are looked at, and there are many."""
        self._say(f"  States of {runs} runs fit so far, or may go ...")

    def states(self, review: StateReview) -> None:
        """The states in the store were looked at; what would be lost may go."""
        all_lost = review.lost()
        lost = [] if all_lost is None else all_lost.sentences
        self._document["runs"] = review.runs
        self._document["states_lost"] = lost
        if review.runs:
            fit = "those of all others fit" if lost else "all fit"
            self._say(f"  States of {review.runs} run{'' if review.runs == 1 else 's'} were looked at: {fit}", "green")
        for sentence in lost:
            self._say(f"  - to be dropped: {sentence}", "yellow")

    def confirm(self, *, replaces: bool, drops: bool = False, yes: bool) -> None:
        """Ask before a running version is replaced, and before states are dropped.

        Raises:
            UsageError: Nobody can be asked.
            Interrupted: The answer was no.
        """
        if not (replaces or drops) or yes:
            return
        name = self._document["workflow"]
        if self._as_json or not self.screen.is_terminal:
            why = f"{name} is running in another version. To replace it" if replaces else "To drop states"
            raise UsageError(f"{why} say --yes.")
        start = f"{name} is running. Have this version take over, with its state" if replaces else f"Start {name}"
        question = f"{start}{', dropping what is listed above for good' if drops else ''}?"
        if not typer.confirm(question):
            raise Interrupted

    def topics_made(self, topics: Sequence[str]) -> None:
        """Topics that did not exist."""
        self._document["topics_made"] = list(topics)
        if topics:
            self._say(f"made topics: {', '.join(topics)}")

    def dropped(self, count: int) -> None:
        """States that were forgotten."""
        self._document["states_dropped"] = count
        if not count:
            return
        self._say(f"dropped {count} state{'' if count == 1 else 's'} that this version has no place for", "yellow")

    def step(self, text: str) -> None:
        """Something that takes a while begins."""
        self._say(f"{text} ...", "yellow")

    def progress(self, status: ClusterStatus) -> None:
        """How far the start is; said when it changes."""
        serving = sum(role.state == "serving" for role in status.roles if role.role)
        wanted = sum(bool(role.role) for role in status.roles)
        placed = status.partitions - len(status.unplaced)
        said = (
            status.coming
            or f"{serving} of {wanted} processes serve, {placed} of {status.partitions} partitions have an owner"
        )
        said += "".join(f"\n  {problem.where}: {problem.sentence}" for problem in status.problems)
        if said != self._said:
            self._said = said
            self._say(f"starting: {said}", "yellow")

    def started(self, status: ClusterStatus | None) -> None:
        """It runs, or (None) it was not waited for."""
        name = self._document["workflow"]
        self._document["state"] = "starting" if status is None else "running"
        self._document["status"] = status
        if status is None:
            self._say(f"{name} is starting. Look: headrace status {name}")
        else:
            self._say(f"{name} is running. Look: headrace status {name}   end it: headrace stop {name}", "green")

    def finish(self) -> None:
        """Show the document, if that is what was asked for."""
        if self._as_json:
            self.screen.json(self._document)

    def _say(self, text: str, style: str = "") -> None:
        if not self._as_json:
            self.screen.say(text, style)


def _files(bundle: Bundle) -> str:
    names = list(bundle.files)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    count = f"{len(names)} file{'' if len(names) == 1 else 's'}"
    return f"{count}, {bundle.size / 1000:.1f} kB: {', '.join(names[:_SHOWN])}{more}"
