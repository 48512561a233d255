"""Rule fetch_panglaodb_clusters: the cluster of each cell of one PanglaoDB sample."""

from scbert.config import run_step
from scbert.steps.fetch_panglaodb_clusters import fetch_panglaodb_clusters

run_step(fetch_panglaodb_clusters, __doc__)
