"""What uploads have come to, and who can tell."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from server.avatars import upload_jobs
from server.avatars.upload_jobs import UploadJobs, UploadRefused

JOB = "0" * 32


def test_another_process_can_tell_what_a_job_has_come_to(tmp_path: Path) -> None:
    UploadJobs(tmp_path).write(JOB, "working", 40, "Looking at the face")
    told = UploadJobs(tmp_path).describe(JOB)
    assert told == {
        "job": JOB, "state": "working", "percent": 40, "message": "Looking at the face"
    }  # fmt: skip


@pytest.mark.parametrize("job", ["", "0" * 31, "../" + "0" * 29, "0" * 32 + "/x", "Z" * 32])
def test_an_id_is_no_path(tmp_path: Path, job: str) -> None:
    (tmp_path / "secret.json").write_text('{"state": "done"}')
    with pytest.raises(UploadRefused) as refused:
        UploadJobs(tmp_path / "work").describe(job)
    assert refused.value.status == 404


def test_on_a_full_disk_the_end_of_a_job_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = UploadJobs(tmp_path)
    jobs.write(JOB, "waiting", 0, "")

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()  # the name fits, the bytes do not
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        jobs.write(JOB, "failed", 100, "the server's disk is full")
    assert jobs.describe(JOB)["state"] == "failed"
    assert [path.name for path in tmp_path.iterdir()] == [f"{JOB}.json"]
    jobs.write(JOB, "done", 100, "")
    assert UploadJobs(tmp_path).describe(JOB)["state"] == "done"


def test_jobs_of_long_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = UploadJobs(tmp_path)
    jobs.write(JOB, "done", 100, "")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "clip.mp4").touch()
    jobs.forget_old()
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(upload_jobs, "JOBS_KEPT_S", -1)
    jobs.forget_old()
    assert list(tmp_path.iterdir()) == []
