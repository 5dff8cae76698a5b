"""Quotas hold at the last place, whoever rushes for it; and the meter counts what jobs held, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from jobs import quotas, service, usage
from jobs.clock import now
from jobs.problem import Problem, Refused
from jobs.projects import set_quotas
from jobs.settings import QUOTAS, Settings
from jobs.tables import Dataset, Job, Model, ModelFile, Usage
from jobs.uploads import DeclaredFile
from tests.jobs.world import MOST, World

HOUR_S = 3600.0


def limited(world: World, **limits: int | None) -> World:
    """The same world, whose callers have these quotas by the settings."""
    return replace(world, scope=replace(world.scope, quotas={**dict.fromkeys(QUOTAS), **limits}))


def refusal(world: World, **fields: object) -> Problem:
    with pytest.raises(Refused) as caught:
        world.submit(world.request(**fields))
    return caught.value.problem


def own(world: World, **values: int | str | None) -> None:
    with world.db.sessions.begin() as s:
        set_quotas(s, world.scope.project_id, values)


def used(world: World) -> Mapping[str, int]:
    with world.db.readers() as s:
        return quotas.used(s, world.scope.project_id)


def held_for(world: World, seconds: float, *, on: str = "cpu", **options: object) -> str:
    """A job that held hardware for so long, and succeeded."""
    job = world.ready().id
    held = world.claim(devices={"auto", on}, **options)
    assert held is not None
    with world.db.readers() as s:
        since = now(s) - seconds
    world.set(job, metered_at=since)
    assert world.publish(held)
    return job


def test_of_a_hundred_that_rush_exactly_as_many_get_in_as_there_is_room(world: World) -> None:
    """100 submits at once, room for 10: 10 jobs, 90 refusals that say so, and nothing of those is left behind.

    Of twenty models: submits of one model wait for each other anyway.
    """
    crowd = limited(world, queued_jobs=10)
    requests = [crowd.judged() for _ in range(20)]

    def rush(number: int) -> str:
        try:
            return crowd.submit(requests[number % 20]).state.value
        except Refused as error:
            return error.problem.code

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(pool.map(rush, range(100)))
    assert outcomes == {"queued": 10, "quota_exceeded": 90}
    with world.db.readers() as s:
        assert s.scalars(select(func.count()).select_from(Job)).one() == 10


def test_a_repeated_request_takes_one_place_and_is_answered_when_all_are_taken(world: World) -> None:
    """50 submits of one key at once, with room for one job: one job, and no refusal."""
    crowd = limited(world, queued_jobs=1)
    request = crowd.judged()
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: crowd.submit(request, "k").id, range(50)))
    assert len(ids) == 1
    assert refusal(crowd).code == "quota_exceeded"


def test_a_refusal_names_the_quota_its_limit_and_what_is_used(world: World) -> None:
    crowd = limited(world, queued_jobs=2)
    for _ in range(2):
        crowd.submit()
    problem = refusal(crowd)
    assert (problem.status, problem.retryable) == (429, True)
    (finding,) = problem.errors
    assert (finding["quota"], finding["limit"], finding["used"]) == ("queued_jobs", 2, 2)
    with pytest.raises(Refused) as early, world.db.sessions.begin() as s:
        service.prepare(s, crowd.scope, world.request())
    assert early.value.problem.as_dict() == problem.as_dict()


def test_a_limit_of_nothing_is_not_worth_waiting_for(world: World) -> None:
    problem = refusal(limited(world, queued_jobs=0))
    assert (problem.status, problem.code, problem.retryable) == (403, "quota_used_up", False)


def test_a_paused_job_keeps_its_place(world: World) -> None:
    """Else pausing would be a way past the quota: it comes back to the queue without asking."""
    crowd = limited(world, queued_jobs=1)
    job = crowd.submit()
    world.set(job.id, state="paused")
    assert refusal(crowd).code == "quota_exceeded"
    world.set(job.id, state="running")
    crowd.submit()


def test_what_the_operator_gives_a_project_wins_over_the_settings(world: World) -> None:
    """More, less, none, and back; another project keeps the default."""
    crowd = limited(world, queued_jobs=1)
    crowd.submit()
    assert refusal(crowd).code == "quota_exceeded"
    own(world, queued_jobs=2)
    crowd.submit()
    assert refusal(crowd).code == "quota_exceeded"
    own(world, queued_jobs=None)
    crowd.submit()
    own(world, queued_jobs="default")
    assert refusal(crowd).code == "quota_exceeded"
    limited(world.other(), queued_jobs=1).submit()
    with pytest.raises(Refused, match="legal: queued_jobs"):
        own(world, jobs=1)


def test_a_full_project_waits_and_nobody_waits_behind_it(world: World) -> None:
    """Ten old jobs of a project that may run one, then one of another: both projects run, and its turn comes."""
    other = world.other()
    mine, theirs = world.judged(), other.judged()
    jobs = [world.submit(mine).id for _ in range(10)]
    later = other.submit(theirs).id
    limits = {"running_jobs": 1}
    first, second, third = (world.claim(limits=limits) for _ in range(3))
    assert first is not None
    assert second is not None
    assert ([first.job_id, second.job_id], third) == ([jobs[0], later], None)
    assert world.publish(first)
    fourth = world.claim(limits=limits)
    assert fourth is not None
    assert fourth.job_id == jobs[1]
    own(world, running_jobs=2)
    fifth = world.claim(limits=limits)
    assert fifth is not None
    assert world.claim(limits=limits) is None


def test_of_workers_that_rush_no_more_hold_jobs_than_the_project_may_run(world: World) -> None:
    """16 claims at once, 3 may run."""
    request = world.judged()
    for _ in range(16):
        world.submit(request)
    with ThreadPoolExecutor(8) as pool:
        held = [one for one in pool.map(lambda n: world.claim(f"w{n}", limits={"running_jobs": 3}), range(16)) if one]
    assert len(held) == 3


def test_time_is_counted_by_the_hardware_that_held_the_job(world: World) -> None:
    """ "auto" on a worker with a GPU is GPU time; deleting the job takes nothing back."""
    on_gpu = held_for(world, HOUR_S, on="cuda")
    held_for(world, 600, on="cpu")
    with world.db.sessions.begin() as s:
        service.delete_job(s, world.scope, on_gpu)
        spent = usage.seconds(s)[world.scope.project_id]
    assert spent["cuda"] == pytest.approx(HOUR_S, abs=30)
    assert spent["cpu"] == pytest.approx(600, abs=30)
    assert (used(world)["gpu_minutes"], used(world)["cpu_minutes"]) == (60, 10)
    assert set(used(world.other()).values()) == {0}


def test_a_running_job_counts_now_and_a_lost_one_to_its_last_heartbeat(world: World) -> None:
    """And neither of them twice: the ledger takes over what the live sum lets go."""
    held = world.claimed()
    with world.db.readers() as s:
        time = now(s)
    world.set(held.job_id, metered_at=time - HOUR_S, heartbeat_at=time - HOUR_S / 2)
    assert used(world)["cpu_minutes"] == 60
    world.expire(held.job_id)
    world.reconcile()
    assert used(world)["cpu_minutes"] == 30
    with world.db.sessions.begin() as s:
        service.cancel(s, world.scope, held.job_id)  # nobody holds it: nothing more to count
    assert used(world)["cpu_minutes"] == 30
    assert world.job(held.job_id).metered_at is None


def test_every_way_to_let_go_of_a_job_ends_its_meter(world: World) -> None:
    """Published, failed, cancelled, drained."""
    ends = {
        "publish": lambda s, job, fence: service.publish(s, job, fence, None, []),
        "fail": lambda s, job, fence: service.fail(s, job, fence, Problem.of("internal", "x")),
        "cancel": lambda s, job, fence: service.cancel(s, world.scope, job) and service.finish_cancel(s, job, fence),
        "drain": lambda s, job, fence: service.release(s, job, fence, "drained"),
    }
    request = world.judged()
    for number, end in enumerate(ends.values(), 1):
        world.submit(request)
        held = world.claim()
        assert held is not None
        with world.db.sessions.begin() as s:
            world_now = now(s)
        world.set(held.job_id, metered_at=world_now - 600)
        with world.db.sessions.begin() as s:
            assert end(s, held.job_id, held.fence)
        assert world.job(held.job_id).metered_at is None
        assert used(world)["cpu_minutes"] == 10 * number


def test_minutes_end_with_the_month_and_begin_anew(world: World) -> None:
    """Refused at submit, and waiting jobs are not claimed; of the month before nothing is left to count."""
    crowd = limited(world, cpu_minutes=60, gpu_minutes=None)
    held_for(world, HOUR_S)
    problem = refusal(crowd, resources={"device": "cpu"})
    assert (problem.code, problem.errors[0]["quota"]) == ("quota_used_up", "cpu_minutes")
    crowd.submit(crowd.request(resources={"device": "auto"}))  # a worker with a GPU may take it
    world.judge()
    limits = {"cpu_minutes": 60}
    assert world.claim(devices={"auto", "cpu"}, limits=limits) is None
    assert world.other().ready()
    assert world.claim(devices={"auto", "cpu"}, limits=limits) is not None
    assert world.claim(devices={"auto", "cpu", "cuda"}, limits=limits) is not None
    with world.db.sessions.begin() as s:
        last_month = usage.month_of(datetime(2001, 2, 3, tzinfo=UTC).timestamp())
        s.execute(Usage.__table__.update().values(month=last_month))
    assert used(world)["cpu_minutes"] == 0
    with world.db.readers() as s:
        assert usage.seconds(s, "2001-02")[world.scope.project_id]["cpu"] == pytest.approx(HOUR_S, abs=30)
    crowd.submit(crowd.request(resources={"device": "cpu"}))


def test_of_a_default_of_no_minutes_nobody_has_any(world: World) -> None:
    """Also a project that has never run a job, unless the operator gives it some."""
    world.ready()
    assert world.claim(devices={"auto", "cuda"}, limits={"gpu_minutes": 0}) is None
    own(world, gpu_minutes=5)
    assert world.claim(devices={"auto", "cuda"}, limits={"gpu_minutes": 0}) is not None


def test_bytes_beyond_the_quota_are_refused_and_leave_no_row(world: World) -> None:
    """Datasets and files of models alike; what was deleted makes room again."""
    for _ in range(10):
        world.blob()  # so that blobs have some bytes
    crowd = limited(world, stored_bytes=30)
    first = crowd.dataset()  # 10 bytes
    crowd.dataset()
    with pytest.raises(Refused) as caught:
        crowd.dataset()
    assert caught.value.problem.code == "quota_used_up"
    with world.db.sessions.begin() as s:
        model = service.create_model(s, crowd.scope, None, [DeclaredFile("model.safetensors")])
    with pytest.raises(Refused), world.db.sessions.begin() as s:
        service.file_arrived(s, crowd.scope, model.id, "model.safetensors", world.blob(), MOST)
    with world.db.readers() as s:
        assert s.scalars(select(func.count()).select_from(Dataset)).one() == 2
        assert s.scalars(select(ModelFile.present)).one() is False
        assert s.scalars(select(Model.status)).one() == "open"
    assert used(world)["stored_bytes"] == 21
    with world.db.sessions.begin() as s:
        service.delete_dataset(s, crowd.scope, first)
        service.file_arrived(s, crowd.scope, model.id, "model.safetensors", world.blob(), MOST)


def test_uploads_that_rush_do_not_pass_the_quota_together(world: World) -> None:
    crowd = limited(world, stored_bytes=1000)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(crowd.dataset) for _ in range(60)]  # 0 + 1 + 2 ... bytes
    assert any(one.exception() for one in jobs)
    assert all(isinstance(one.exception(), Refused | type(None)) for one in jobs)
    assert used(world)["stored_bytes"] <= 1000


def test_the_settings_name_every_quota_and_limit_none_by_default() -> None:
    assert Settings().quotas == dict.fromkeys(quotas.WHAT)
    assert Settings(quota_gpu_minutes=3).quotas["gpu_minutes"] == 3
