"""The doctor: what it looks at, and that one bad finding hides no other."""

from pathlib import Path

import pytest

from aiprod_studio import doctor
from aiprod_studio.errors import StudioError
from aiprod_studio.settings import settings


def test_everything_but_the_render_is_well_here() -> None:
    findings = {finding.name: finding for finding in doctor.examine(render=False)}
    assert [one.to_line() for one in findings.values() if not one.ok] == []
    assert "cores" in findings["hardware"].detail
    assert "RAM" in findings["memory"].detail
    assert "torch 2" in findings["versions"].detail
    assert "GiB free" in findings["outputs"].detail
    assert not list(settings().outputs.iterdir())


def test_a_bad_finding_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIPROD_OUTPUTS", str(tmp_path / "file"))
    settings.cache_clear()
    findings = list(doctor.examine(render=False))
    assert [one.name for one in findings if not one.ok] == ["outputs"]
    assert "file" in next(one.to_line() for one in findings if not one.ok)
    assert findings[-1].name == "home"


def test_a_missing_package_and_a_broken_library_are_findings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    missing = doctor._look("versions", doctor.describe_versions)
    assert not missing.ok
    assert "no-such-package is not installed" in missing.detail

    def load() -> str:
        raise OSError("libtorch.so: cannot open\nshared object file")

    broken = doctor._look("hardware", load)
    assert broken.detail.startswith("libtorch.so: cannot open shared object file.")


def test_the_environment_is_the_launchers_where_its_stamp_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert "pip" in doctor.describe_environment()
    (tmp_path / "aiprod-stamp.json").write_text('{"build": "cu130"}', encoding="utf-8")
    assert "launcher, PyTorch build cu130" in doctor.describe_environment()
    (tmp_path / "aiprod-stamp.json").write_text("[]", encoding="utf-8")
    assert "cannot be read" in doctor.describe_environment()


def test_a_nearly_full_disk_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK", 2**62)
    with pytest.raises(StudioError, match="Free some space"):
        doctor.describe_space(tmp_path)
