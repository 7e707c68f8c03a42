"""Workflows are found and imported by name, and what is wrong with them is said in the user's terms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.actors.loading import WorkflowImportError, import_workflow, load_workflow

GOOD = """
from headrace.workflows.workflow import Workflow

workflow = Workflow("orders")
other = Workflow("other")
"""


@pytest.fixture(autouse=True)
def _forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules and paths of one test are not those of the next."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_file_is_imported_as_a_module_of_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "orders_flow.py", GOOD)

    ref, workflow = load_workflow("orders_flow.py", tmp_path)

    assert workflow.name == "orders"
    assert (ref.folder, ref.module, ref.attr) == (str(tmp_path), "orders_flow", "workflow")


def test_a_name_after_the_colon_chooses_among_several(tmp_path: Path) -> None:
    write(tmp_path, "several_flows.py", GOOD)

    assert load_workflow("several_flows.py:other", tmp_path)[1].name == "other"
    assert load_workflow("several_flows:other", tmp_path)[1].name == "other"


def test_a_file_in_a_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/names.py", "NAME = 'packaged'")
    write(
        tmp_path,
        "shop/flow.py",
        "from headrace.workflows.workflow import Workflow\nfrom .names import NAME\nworkflow = Workflow(NAME)",
    )

    ref, workflow = load_workflow("shop/flow.py", tmp_path)

    assert (ref.module, workflow.name) == ("shop.flow", "packaged")


def test_another_process_imports_the_same_by_its_reference(tmp_path: Path) -> None:
    write(tmp_path, "flow_elsewhere.py", GOOD)
    ref, _ = load_workflow("flow_elsewhere.py", tmp_path)
    program = (
        "from headrace.actors.loading import import_workflow\nfrom headrace.actors.spec import CodeRef\n"
        f"print(import_workflow({ref!r}).name)"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout == "orders\n"


def test_the_version_changes_with_the_code(tmp_path: Path) -> None:
    file = write(tmp_path, "versioned.py", GOOD)
    before, _ = load_workflow("versioned.py", tmp_path)

    file.write_text(GOOD + "\n# changed\n")

    assert load_workflow("versioned.py", tmp_path)[0].version != before.version


def test_a_failing_import_shows_the_users_frames_only(tmp_path: Path) -> None:
    write(tmp_path, "helpers_of_it.py", "import json\n\ndef read():\n    return json.loads('{')\n")
    write(tmp_path, "failing.py", "import helpers_of_it\n\nsettings = helpers_of_it.read()\n")

    with pytest.raises(WorkflowImportError) as caught:
        load_workflow("failing.py", tmp_path)

    lines = caught.value.traceback.splitlines()
    files = [line.split('"')[1] for line in lines if line.startswith("  File")]
    assert [Path(file).name for file in files] == ["failing.py", "helpers_of_it.py"]
    assert lines[-1].startswith("json.decoder.JSONDecodeError: ")


def test_a_syntax_error_shows_its_line(tmp_path: Path) -> None:
    write(tmp_path, "unfinished.py", "x = 1\nworkflow = Workflow(\n")

    with pytest.raises(WorkflowImportError, match=r"unfinished.py\", line 2"):
        load_workflow("unfinished.py", tmp_path)


def test_a_module_that_exits_does_not_take_the_process_along(tmp_path: Path) -> None:
    write(tmp_path, "exiting.py", "import sys\nsys.exit('no licence')\n")

    with pytest.raises(WorkflowImportError, match="SystemExit: no licence"):
        load_workflow("exiting.py", tmp_path)


def test_a_missing_dependency_of_the_module_is_told_from_a_missing_module(tmp_path: Path) -> None:
    write(tmp_path, "needing.py", "import a_library_that_is_not_there\n")

    with pytest.raises(WorkflowImportError, match="No module named 'a_library_that_is_not_there'"):
        load_workflow("needing.py", tmp_path)
    with pytest.raises(WorkflowImportError, match="There is no module missing_module in"):
        load_workflow("missing_module:workflow", tmp_path)
    with pytest.raises(WorkflowImportError, match="There is no file"):
        load_workflow("missing_file.py", tmp_path)


def test_a_wrong_name_lists_the_right_ones(tmp_path: Path) -> None:
    write(tmp_path, "named.py", GOOD.replace("workflow = ", "orders = "))

    with pytest.raises(WorkflowImportError, match=r"has no `workflow`\. It has `orders`, `other`.*named.py:orders"):
        load_workflow("named.py", tmp_path)


def test_something_that_is_no_workflow_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "dicts.py", "workflow = {}")

    with pytest.raises(WorkflowImportError, match=r"is a dict, not a Workflow\. Make one"):
        load_workflow("dicts.py", tmp_path)


def test_a_file_with_the_name_of_a_loaded_module_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "json.py", GOOD)

    with pytest.raises(WorkflowImportError, match="Rename your file"):
        load_workflow("json.py", tmp_path)


def test_importing_again_gives_the_same_objects(tmp_path: Path) -> None:
    write(tmp_path, "once.py", GOOD)

    ref, workflow = load_workflow("once.py", tmp_path)

    assert import_workflow(ref) is workflow
