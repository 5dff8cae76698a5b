"""Rows of checkpoints: only the holder writes, only later attempts read, two stay, blobs of others stay."""

from jobs import service
from jobs.tables import Checkpoint
from tests.jobs.world import World


def file(sha: str) -> service.PublishedFile:
    return service.PublishedFile("state", 4, sha * 64, "application/octet-stream")


def keep(world: World, held: service.Claim, *shas: str) -> list[list[str] | None]:
    answers = []
    for sha in shas:
        with world.db.sessions.begin() as s:
            answers.append(service.keep_checkpoint(s, held.job_id, held.fence, [file(sha)]))
    return answers


def left(world: World, held: service.Claim) -> list[str]:
    with world.db.readers() as s:
        return [files["state"][0] for files in service.checkpoints(s, held.job_id, held.fence)]


def test_two_stay_and_only_a_later_attempt_reads_them(world: World) -> None:
    held = world.claimed()
    assert keep(world, held, "a", "b", "c") == [[], [], ["a" * 64]]
    assert left(world, held) == []
    world.expire(held.job_id)
    world.reconcile()
    again = world.claim()
    assert again is not None
    assert left(world, again) == ["c", "b"]


def test_a_stale_holder_writes_none(world: World) -> None:
    held = world.claimed()
    world.expire(held.job_id)
    world.reconcile()
    assert keep(world, held, "a") == [None]
    again = world.claim()
    assert again is not None
    assert left(world, again) == []


def test_a_blob_that_another_jobs_checkpoint_needs_stays(world: World) -> None:
    one, two = world.claimed(), world.claimed()
    keep(world, two, "a")
    assert keep(world, one, "a", "b", "c") == [[], [], []]


def test_none_is_left_once_the_job_has_ended(world: World) -> None:
    held = world.claimed()
    keep(world, held, "a", "b")
    world.publish(held)
    world.reconcile()
    with world.db.readers() as s:
        assert s.query(Checkpoint).count() == 0
