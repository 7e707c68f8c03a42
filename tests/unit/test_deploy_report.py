"""What `deploy` says, and when it asks."""

from __future__ import annotations

import pytest

from headrace.actors.bundle import Bundle
from headrace.actors.changes import Change
from headrace.actors.spec import CodeRef, Deployment
from headrace.cli.deploy_report import Report
from headrace.cli.exits import UsageError
from headrace.cli.screen import Screen


def planned(*, as_json: bool) -> Report:
    report = Report(Screen(), as_json=as_json)
    after = Deployment(
        workflow="orders", code=CodeRef(folder="", module="flow", version="2", bundle=True), partitions=8,
        redis_url="redis://:hunter2@store:6379/0", cluster="default", address="ray://head:10001",
    )  # fmt: skip
    files = {f"m{number:02}.py": 100 for number in range(15)}
    report.plan("orders", "flow.py", after, Bundle("2", b"", files), [Change("code", "1", "2")], ["alerts"])
    return report


def test_it_says_what_goes_in_and_what_changes_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    planned(as_json=False)

    said = capsys.readouterr().out
    assert "15 files, 1.5 kB: m00.py, m01.py" in said
    assert "and 3 more" in said
    assert "code: 1 -> 2" in said
    assert "Topics to be made: alerts" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("as_json", [True, False])
def test_a_running_version_is_replaced_only_when_somebody_says_so(as_json: bool) -> None:
    report = planned(as_json=as_json)

    report.confirm(replaces=False, yes=False)
    report.confirm(replaces=True, yes=True)
    with pytest.raises(UsageError, match="orders is running in another version"):
        report.confirm(replaces=True, yes=False)  # nobody is at a terminal who could be asked


def test_as_json_it_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    report = planned(as_json=True)
    report.started(None)

    report.finish()

    said = capsys.readouterr().out
    assert said.startswith("{")
    assert '"state": "starting"' in said
    assert "hunter2" not in said
