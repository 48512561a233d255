import re
import runpy
from collections.abc import Sequence
from pathlib import Path

import pytest

from scbert.config import Binning, DeviceName, run_step

ROOT = Path(__file__).parents[2]
COMMAND = "--gene-table g.csv --samples x y --device cpu"
SETTINGS = ["--settings", '{"n_bins": 5}']


@pytest.fixture
def _without_hooks(monkeypatch):
    """Logging, errors and signals of this process stay as they are."""
    for hook in ("start_logging", "explain_user_errors", "end_when_told"):
        monkeypatch.setattr(f"scbert.config.script.{hook}", lambda: None)


@pytest.fixture
def ran(monkeypatch, _without_hooks):
    """Run a step with the words of a command line; return what the step was given."""

    def run(*words):
        found = {}

        def step(
            gene_table: Path,
            samples: Sequence[Path],
            settings: Binning,
            *,
            device: DeviceName,
            title: str = "none",
            test: bool = True,
        ):
            found.update(locals())

        monkeypatch.setattr("sys.argv", ["step.py", *words])
        run_step(step, "What it does.")
        return {name: value for name, value in found.items() if name != "found"}

    return run


def test_run_step_gives_each_parameter_what_its_type_says(ran):
    expected = {
        "gene_table": Path("g.csv"),
        "samples": [Path("x"), Path("y")],
        "settings": Binning(n_bins=5),
        "device": "cpu",
        "title": "none",
        "test": True,
    }
    assert ran(*COMMAND.split(), *SETTINGS) == expected
    more = ran(*COMMAND.split(), *SETTINGS, "--no-test", "--samples", "--title", "two words")
    assert more == expected | {"samples": [], "title": "two words", "test": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (COMMAND.split(), "the following arguments are required: --settings"),
        ([*COMMAND.split(), *SETTINGS, "--seeds", "1"], "unrecognized arguments: --seeds 1"),
        ([*COMMAND.split(), "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        ([*COMMAND.split(), "--settings", "n_bins"], "--settings: not valid: Expecting value"),
        ([*COMMAND.split(), "--settings", '{"n_bins": 0}'], "--settings: not valid: .*n_bins"),
        ([*COMMAND.split(), "--settings", '{"bins": 5}'], "--settings: not valid: .*n_bins.*bins"),
    ],
)
def test_run_step_names_what_is_wrong(ran, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        ran(*words)
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


RULE = re.compile(r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)
RULES = {
    name: text
    for file in sorted((ROOT / "rules").glob("*.smk"))
    for name, text in RULE.findall(file.read_text())
}


def command_of(rule):
    """The shell command of a rule, before Snakemake fills it in."""
    lines = re.findall(r'^        "(.*)"$', RULES[rule].partition("shell:\n")[2], re.MULTILINE)
    return "".join(lines)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"record_config", "benchmark", "queries"}))
@pytest.mark.usefixtures("_without_hooks")
def test_a_rule_gives_the_script_of_its_name_what_the_step_takes(rule, monkeypatch, capsys):
    """The options stand in the step's signature and in the rule: nothing else compares them.

    record_config has no script, benchmark is a target; run_benchmark_method has no step: it runs
    in the environment of a method.
    """
    script = f"scripts/{rule}.py"
    runs = "run_method(" if rule == "run_benchmark_method" else f"run_step({rule}, __doc__)"
    assert runs in (ROOT / script).read_text()
    for name in (script, f"logs/{rule}", f"results/benchmarks/{rule}"):
        assert name in RULES[rule]
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / script))
    text = capsys.readouterr().out
    taken = {*re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)}
    needed = taken - {*re.findall(r"\[(--[\w-]+)", text)}
    given = {*re.findall(r" (--[\w-]+)", command_of(rule))} - {"--nodes"}  # of the launcher
    assert needed <= given <= taken


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"benchmark", "queries"}))
def test_a_rule_quotes_paths_for_the_shell(rule):
    filled_in = re.findall(r"\{(?!resources|threads)(.*?)\}", command_of(rule))
    assert filled_in
    assert all(name.endswith(":q") for name in filled_in)
