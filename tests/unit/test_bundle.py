"""Bundles of code: what goes in, that the same files make the same bundle, and that unpacking is safe."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.actors.bundle import CACHE, Bundle, cache_folder, pack, unpack
from headrace.actors.bundle_files import BundleError, choose_files
from headrace.actors.bundle_sweep import hold, sweep

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a folder from names and texts."""

    def make(files: dict[str, str], name: str = "project") -> Path:
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / name

    return make


def names(folder: Path) -> list[str]:
    return [file.name for file in choose_files(folder)]


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_code_and_data_beside_it_go_in(tree: Tree) -> None:
    folder = tree({"flow.py": "", "helpers/__init__.py": "", "helpers/rules.py": "", "rules.json": "{}"})

    assert names(folder) == ["flow.py", "helpers/__init__.py", "helpers/rules.py", "rules.json"]


@pytest.mark.parametrize(
    "secret",
    [
        ".env",
        ".env.production",
        "deploy/.netrc",
        ".aws/credentials",
        "tls/server.key",
        "ca.pem",
        "id_ed25519",
        "secrets.toml",
    ],
)
def test_secrets_never_go_in_not_even_when_asked_for(tree: Tree, secret: str) -> None:
    folder = tree({"flow.py": "", secret: "x", ".headraceignore": f"!{secret}\n!{Path(secret).parts[0]}\n"})

    assert names(folder) == ["flow.py"]


@pytest.mark.parametrize(
    "name",
    [".git/config", ".venv/lib/a.py", "venv/lib/a.py", "__pycache__/flow.pyc", "node_modules/a.js", ".headrace/a.log"],
)
def test_what_is_no_code_of_the_workflow_stays_out(tree: Tree, name: str) -> None:
    folder = tree({"flow.py": "", name: "x", "venv/pyvenv.cfg": "home = /usr/bin"})

    assert names(folder) == ["flow.py"]


def test_ignored_files_stay_out_and_our_own_file_has_the_last_word(tree: Tree) -> None:
    folder = tree({
        "flow.py": "", "data/big.csv": "x", "notes.txt": "x", "model_pb2.py": "", "docs/a.md": "", "docs/b.md": "",
        ".gitignore": "data/\n*_pb2.py\n*.txt\n", "docs/.gitignore": "b.md\n", ".headraceignore": "!*_pb2.py\n",
    })  # fmt: skip

    assert names(folder) == ["docs/a.md", "flow.py", "model_pb2.py"]


def test_links_out_of_the_folder_are_not_followed(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("secret")
    folder = tree({"flow.py": "x"})
    (folder / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    (folder / "again.py").symlink_to(folder / "flow.py")

    assert names(folder) == ["again.py", "flow.py"]


def test_a_folder_too_large_names_the_largest_file_and_the_cure(tree: Tree) -> None:
    folder = tree({"flow.py": "", "model.bin": "x" * 3_000})

    with pytest.raises(BundleError, match=r"model\.bin[\s\S]*\.headraceignore"):
        choose_files(folder, max_bytes=2_000)


def test_the_home_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(BundleError, match="folder of its own"):
        choose_files(tmp_path)


def test_the_same_files_make_the_same_bundle_wherever_and_whenever(tree: Tree) -> None:
    files = {"flow.py": "a = 1", "helpers/x.py": "b = 2"}
    one, other = tree(files), tree(dict(reversed(files.items())), "other")
    os.utime(other / "flow.py", (1, 1))

    assert pack(one) == pack(other)


@given(st.dictionaries(st.sampled_from(["a.py", "b.py", "ab.py", "p/a.py"]), st.binary(max_size=4), min_size=1))
def test_any_other_content_or_name_is_another_version(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("code")
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    before = pack(folder)
    name = min(files)

    (folder / name).write_bytes(files[name] + b"#")
    changed = pack(folder)
    (folder / name).write_bytes(files[name])
    (folder / name).rename(folder / "z.py")

    assert len({before.version, changed.version, pack(folder).version}) == 3
    shutil.rmtree(folder)


def test_what_was_packed_is_unpacked(tree: Tree, tmp_path: Path) -> None:
    bundle = pack(tree({"flow.py": "a = 1", "helpers/x.py": "b = 2", "empty.py": ""}))

    folder = unpack(bundle.archive, bundle.version, tmp_path / "cache")

    assert pack(folder) == bundle
    assert (folder / "helpers/x.py").read_text() == "b = 2"


def test_many_unpack_at_once_and_all_find_it_whole(tree: Tree, tmp_path: Path) -> None:
    bundle = pack(tree({f"m{number}.py": "x" * 100 for number in range(50)}))
    cache = tmp_path / "cache"

    def one(_: int) -> int:
        return len(list(unpack(bundle.archive, bundle.version, cache).iterdir()))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(32))) == {50}
    assert [entry.name for entry in cache.iterdir()] == [bundle.version]


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py", "a/"])
def test_a_bundle_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="would lie elsewhere"):
        unpack(archive_of({name: b"x"}), "0123456789abcdef", tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_bundle_that_is_not_what_its_name_says_is_refused(tree: Tree, tmp_path: Path) -> None:
    bundle: Bundle = pack(tree({"flow.py": "a = 1"}))

    with pytest.raises(BundleError, match="not hold what its name says"):
        unpack(archive_of({"flow.py": b"a = 2"}), bundle.version, tmp_path)
    with pytest.raises(BundleError, match="damaged"):
        unpack(bundle.archive[:-10], bundle.version, tmp_path)


def test_a_bundle_that_grows_too_large_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="larger than"):
        unpack(archive_of({f"{number}.py": b"" for number in range(5_001)}), "0123456789abcdef", tmp_path)


def test_code_is_unpacked_where_nobody_else_can_write(tmp_path: Path) -> None:
    folder = cache_folder({CACHE: str(tmp_path)})

    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_home_without_a_place_to_write_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert cache_folder({"XDG_CACHE_HOME": str(blocked)}).is_relative_to(tmp_path / f"headrace-{os.getuid()}")


USER = """
import sys
from pathlib import Path
from headrace.actors.bundle_sweep import hold
assert hold(Path(sys.argv[1])) is not None
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def used(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses unpacked code."""
    command = [sys.executable, "-c", USER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_versions_that_no_process_uses_are_swept_whoever_used_them(tree: Tree, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    bundles = [pack(tree({"flow.py": f"{number}"})) for number in range(3)]
    ours, theirs, nobodys = (unpack(bundle.archive, bundle.version, cache) for bundle in bundles)
    with used(ours), used(theirs) as other_workflow:
        assert sweep(cache, rest=0) == [nobodys.name]
        assert sweep(cache, rest=0) == []
        other_workflow.kill()
        other_workflow.wait()

        assert sweep(cache, rest=0) == [theirs.name]
        assert [entry.name for entry in cache.iterdir()] == [ours.name]


@pytest.fixture
def unpacked(tree: Tree, tmp_path: Path) -> Path:
    """The folder of a version in the cache `tmp_path`."""
    bundle = pack(tree({"flow.py": ""}))
    return unpack(bundle.archive, bundle.version, tmp_path)


def test_a_version_rests_after_its_last_use_before_it_is_swept(unpacked: Path, tmp_path: Path) -> None:
    os.utime(unpacked, (0, 0))
    held = hold(unpacked)
    assert held is not None
    os.close(held)

    assert sweep(tmp_path) == []
    os.utime(unpacked, (0, 0))
    assert sweep(tmp_path) == [unpacked.name]
    assert hold(unpacked) is None


def test_what_is_swept_while_it_is_taken_up_is_unpacked_again(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: shutil.rmtree(unpacked))

    assert hold(unpacked) is None


def test_where_there_are_no_locks_nothing_is_removed_and_all_can_be_used(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)

    assert sweep(tmp_path, rest=0) == []
    assert hold(unpacked) is not None
