# Two faults of Snakemake 9.27 that make long runs slow. Nothing else of it is changed.
from graphlib import CycleError, TopologicalSorter
from threading import Timer


def look_again(scheduler, delay):
    """Look for jobs to start after so many seconds, instead of when it was to be done before.

    After each look that leaves jobs, Snakemake sets a timer to look again a second later, when
    --max-jobs-per-timespan, which is on by default, may let more of them start. It stops no timer, and each
    sets the next one: after some hundred jobs the scheduler does nothing but look, and takes a core.
    """
    limiter = scheduler.job_rate_limiter
    if limiter is not None and delay == limiter.timespan:
        delay = min(delay, 1)  # of a long timespan, for the earlier timer is stopped
    if hasattr(scheduler, "_next_look"):
        scheduler._next_look.cancel()
    scheduler._next_look = Timer(delay, scheduler._open_jobs.release)
    scheduler._next_look.start()


def check_groups_at_once(walk):
    """Return a check that no group of jobs waits for itself; `walk` is Snakemake's.

    Snakemake walks from each job of a group through all that it depends on, and that for each job of the
    group again: plans of thousands of samples take minutes. Where the graph of groups has no circle, no
    walk can come back; else Snakemake walks, and says which group it is.
    """

    def check(dag):
        if not dag._group:
            return
        needs = {}
        for job, dependencies in dag._dependencies.items():
            own = dag._group.get(job, job)
            others = (dag._group.get(one, one) for one in dependencies)
            needs.setdefault(own, set()).update(one for one in others if one != own)
        groups = set(dag._group.values())
        whole = all(
            dag._group.get(job) == group for group in groups for job in group.jobs
        )
        try:
            TopologicalSorter(needs).prepare()
        except CycleError:
            whole = False
        if not whole:
            walk(dag)

    check.walk = walk
    return check


def mend():
    """Change Snakemake where it is as we know it, and once."""
    from snakemake.dag import DAG
    from snakemake.scheduling.job_scheduler import JobScheduler

    if hasattr(JobScheduler, "_schedule_reevalutation"):
        JobScheduler._schedule_reevalutation = look_again
    if hasattr(DAG, "_check_groups") and not hasattr(DAG._check_groups, "walk"):
        DAG._check_groups = check_groups_at_once(DAG._check_groups)


if not AS_MODULE:  # else it is not our Snakemake
    mend()
