import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiprod_studio.errors import DoesNotFit, MediaError
from aiprod_studio.media.files import explain, replacing, write_bytes


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_bytes(path, b"old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.startswith(".")
            assert temporary.suffix == ".txt"
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    write_bytes(path, b"n", b"ew")
    assert path.read_bytes() == b"new"


def test_bad_targets_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for path, reason in [
        (tmp_path / "file" / "a.mp4", "is a file, not a folder"),
        (tmp_path / "file" / "deeper" / "a.mp4", "is a file, not a folder"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / ("x" * 300 + ".mp4"), "too long"),
        (Path("/dev/null"), "not an ordinary file"),
    ]:
        with pytest.raises(MediaError, match=reason), replacing(path):
            raise AssertionError("the body must not run")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disks_are_named(number: int) -> None:
    error = explain(OSError(number, os.strerror(number)), Path("a.mp4"))
    assert isinstance(error, DoesNotFit)
    assert "Free some space" in str(error)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.EROFS, "read-only disk"),
        (errno.EIO, "Try another folder"),
    ],
)
def test_other_reasons_are_media_errors(number: int, advice: str) -> None:
    error = explain(OSError(number, os.strerror(number)), Path("a.mp4"))
    assert isinstance(error, MediaError)
    assert advice in str(error)


_LOCKED = """
import os, sys
from pathlib import Path
from aiprod_studio.errors import MediaError
from aiprod_studio.media.files import write_bytes
folder = Path(sys.argv[1])
folder.chmod(0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    write_bytes(folder / "a.mp4", b"x")
except MediaError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_locked_folder_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LOCKED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no permission" in done.stdout
