"""The quota's control group, in a folder that stands in for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.cpu_squeeze import NoQuota, quota

GROUP = f"lipwire-squeeze-{os.getpid()}"


def test_version_2_takes_one_line_and_gives_the_process_back(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    with quota([os.getpid()], 0.3, tmp_path):
        assert (tmp_path / GROUP / "cpu.max").read_text() == "30000 100000"
        assert (tmp_path / GROUP / "cgroup.procs").read_text() == str(os.getpid())
        for file in (tmp_path / GROUP).iterdir():
            file.unlink()  # as the kernel's own files go with their folder
    assert not (tmp_path / GROUP).exists()


def test_version_1_takes_period_and_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    with quota([os.getpid()], 0.5, tmp_path):
        assert (tmp_path / "cpu" / GROUP / "cpu.cfs_quota_us").read_text() == "50000"


def test_without_control_groups_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoQuota, match="expected control groups"), quota([os.getpid()], 1, tmp_path):
        pass
