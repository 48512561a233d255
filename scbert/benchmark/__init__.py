"""The benchmark across datasets: tasks, the contract with methods, scores, statistics, page."""
