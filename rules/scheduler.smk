# One timer for Snakemake's scheduler.
#
# After each look at the jobs that are ready, Snakemake (9.27) sets a timer to look again a second later,
# when --max-jobs-per-timespan, which is on by default, may let more of them start. It stops no timer, and
# each sets the next one: after some hundred jobs the scheduler does nothing but look, and takes a core.
from threading import Timer

from snakemake.scheduling.job_scheduler import JobScheduler


def look_again(scheduler, delay):
    """Look at the jobs again after so many seconds, instead of when it was to be done before."""
    if hasattr(scheduler, "_next_look"):
        scheduler._next_look.cancel()
    scheduler._next_look = Timer(delay, scheduler._open_jobs.release)
    scheduler._next_look.start()


if not AS_MODULE:  # else it is not our Snakemake
    JobScheduler._schedule_reevalutation = look_again
