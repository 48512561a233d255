"""Rule run_benchmark_method: two files of cells -> a method's answers, and what the run took.

The environment is the method's: neither scBERT nor its dependencies are in it, and the options
stand here and are not read from a signature.
"""

import argparse
from pathlib import Path

from scbert.benchmark.run_method import MethodProgram, run_method

parser = argparse.ArgumentParser(description=__doc__)
for name in ("learned", "query", "answers", "run"):
    parser.add_argument(f"--{name}", type=Path, required=True)
parser.add_argument("--folder", type=Path, required=True, help="with predict.py")
parser.add_argument("--options", default="", help="further words for predict.py")
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--minutes", type=float, required=True, help="then it has failed")
given = parser.parse_args()
method = MethodProgram(given.folder, given.options, given.seed, given.threads, given.minutes)
run_method(method, given.learned, given.query, given.answers, given.run)
