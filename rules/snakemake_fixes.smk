# Two faults of Snakemake 9.27 that make long runs slow. Nothing else of it is changed.
from threading import Timer

from snakemake.dag import DAG
from snakemake.scheduling.job_scheduler import JobScheduler

check_each_jobs_group = DAG._check_groups


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


def check_each_group(dag):
    """Check that no group of jobs waits for itself, each group once.

    Snakemake checks the group of each job, so a group of twenty jobs twenty times: plans of thousands of
    samples take minutes.
    """
    group_of = dag._group
    dag._group = {group: group for group in group_of.values()}
    try:
        check_each_jobs_group(dag)
    finally:
        dag._group = group_of


if not AS_MODULE:  # else it is not our Snakemake
    JobScheduler._schedule_reevalutation = look_again
    DAG._check_groups = check_each_group
