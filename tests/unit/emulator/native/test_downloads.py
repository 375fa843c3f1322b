"""Downloads over `/api/v1/models/download`, in each of their documented states."""

import pytest

from lmbridge.emulator import FakeClock, Pace

ABSENT = "mistralai/ministral-3-3b"


async def begin(http, **more):
    status, answer = await http.post("/api/v1/models/download", {"model": ABSENT, **more})
    assert status == 200, answer
    return answer


def reaches(emulator, http, job, state):
    """Return a question that waits until the job is in a state."""

    async def wait():
        path = f"/api/v1/models/download/status/{job['job_id']}"
        for _ in range(10_000):
            _, status = await http.get(path)
            if status["status"] == state:
                return status
        return pytest.fail(f"never {state}: {status}")

    return wait()


async def test_a_download_can_fail(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(download_ends="failed")
    http = await connect(emulator)
    job = await begin(http)
    status = await reaches(emulator, http, job, "failed")
    assert 0 < status["downloaded_bytes"] < status["total_size_bytes"]
    assert not {"bytes_per_second", "estimated_completion", "completed_at"} & status.keys()
    _, models = await http.get("/api/v1/models")
    assert ABSENT not in [model["key"] for model in models["models"]]
    emulator.configure(download_ends="completed")
    again = await begin(http)
    assert again["job_id"] != job["job_id"]
    await reaches(emulator, http, again, "completed")


async def test_a_download_can_be_paused_and_resumed(make_lmstudio_emulator, connect):
    emulator = await make_lmstudio_emulator(download_ends="paused")
    http = await connect(emulator)
    job = await begin(http)
    status = await reaches(emulator, http, job, "paused")
    assert status["downloaded_bytes"] == status["total_size_bytes"] // 2
    assert "bytes_per_second" not in status
    assert (await begin(http))["job_id"] == job["job_id"]
    status = await reaches(emulator, http, job, "completed")
    assert status["downloaded_bytes"] == status["total_size_bytes"]


async def test_speed_and_estimate_follow_the_clock(make_lmstudio_emulator, connect):
    clock = FakeClock(start=0.0)
    emulator = await make_lmstudio_emulator(clock=clock, pace=Pace(download_step=2.0))
    http = await connect(emulator)
    job = await begin(http)
    assert job["started_at"] == "2026-01-01T00:00:00.000Z"
    gate = emulator.gates.hold("downloading", after=1)
    clock.advance(2.0)
    await gate.reached()
    _, status = await http.get(f"/api/v1/models/download/status/{job['job_id']}")
    assert status["bytes_per_second"] == pytest.approx(status["total_size_bytes"] / 20, rel=1e-6)
    assert status["estimated_completion"] == "2026-01-01T00:00:20.000Z"
    assert list(job) == ["job_id", "status", "total_size_bytes", "started_at"]
