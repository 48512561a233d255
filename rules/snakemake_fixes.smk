# Two faults of Snakemake 9.27 that make long runs slow. Nothing else of it is changed.
from graphlib import CycleError, TopologicalSorter
from threading import Timer

from snakemake.dag import DAG
from snakemake.scheduling.job_scheduler import JobScheduler

check_groups_by_walks = DAG._check_groups


def look_again(scheduler, delay):
    """Look for jobs to start after so many seconds, instead of when it was to be done before.

    After each look Snakemake sets a timer to look again a second later, when --max-jobs-per-timespan, which
    is on by default, may let more jobs start. It stops no timer, and each sets the next one: after some
    hundred jobs the scheduler does nothing but look, and takes a core.
    """
    if hasattr(scheduler, "_next_look"):
        scheduler._next_look.cancel()
    scheduler._next_look = Timer(delay, scheduler._open_jobs.release)
    scheduler._next_look.start()


def check_groups(dag):
    """Refuse groups of jobs that wait for themselves; all at once.

    Snakemake walks from each job of a group through all that it depends on, and that for each job of the
    group again: plans of thousands of samples take minutes. Where the graph of groups has no circle, no
    walk can come back; else Snakemake walks, and says which group it is.
    """
    needs = {}
    for job, dependencies in dag._dependencies.items():
        own = dag._group.get(job, job)
        others = (dag._group.get(one, one) for one in dependencies)
        needs.setdefault(own, set()).update(one for one in others if one != own)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        check_groups_by_walks(dag)


if not AS_MODULE:  # else it is not our Snakemake
    JobScheduler._schedule_reevalutation = look_again
    DAG._check_groups = check_groups
