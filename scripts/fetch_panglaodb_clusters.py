"""Rule fetch_panglaodb_clusters: the cluster of each cell of one PanglaoDB sample."""

from scbert.config import SampleSettings, step_arguments
from scbert.steps.fetch_panglaodb_clusters import fetch_panglaodb_clusters

args = step_arguments(__doc__, "clusters", settings=SampleSettings)
fetch_panglaodb_clusters(**vars(args))
