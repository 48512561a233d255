"""The page of the benchmark: one HTML file with every number that it is made from in its tables."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scbert.benchmark.against import (
    RunComparison,
    comparison_table,
    judge_comparison,
    published_table,
)
from scbert.benchmark.batch_mixing import mixing_table
from scbert.benchmark.cards import (
    datasets_cards,
    methods_cards,
    metrics_cards,
    read_versions,
)
from scbert.benchmark.checks import check_benchmark, checks_table
from scbert.benchmark.claims import (
    UNTESTED,
    Verdict,
    claims_table,
    compare_protocol,
    judge_claims,
)
from scbert.benchmark.disputed import disputed_cells, disputed_table, judge_disputed
from scbert.benchmark.encoder import expert_verdict, pretraining_table, pretraining_verdict
from scbert.benchmark.failures import failures_table
from scbert.benchmark.heat_map import heat_map
from scbert.benchmark.page_tables import Table
from scbert.benchmark.ranked import RankedProtocol, ranked_protocols
from scbert.benchmark.results import Results
from scbert.benchmark.score_figures import draw_all
from scbert.benchmark.score_tables import (
    cost_table,
    levels_table,
    novelty_table,
    parts_table,
)
from scbert.benchmark.transfers import judge_transfers
from scbert.cells.quality import FileQuality
from scbert.config import Benchmark, Dataset
from scbert.provenance import Provenance
from scbert.report.report import inline_figure

SECTIONS = {
    "overview": "All methods at a glance",
    "against": "What has changed",
    "ranks": "Ranks and differences",
    "cost": "Score against cost",
    "conditions": "Few labels, imbalance, new types, label noise",
    "mixing": "Do batches mix, and do types stay apart?",
    "encoder": "What is the encoder worth?",
    "claims": "The claims of the paper",
    "cards": "Datasets, methods, scores",
    "quality": "Can the benchmark be believed?",
    "disputed": "Cells that all methods contradict",
    "again": "Run it again",
}
CONDITIONS = ("few_labels", "class_imbalance", "new_type", "label_noise")


@dataclass(frozen=True)
class About:
    """How the benchmark was run: the command, its configuration, and what ran.

    `datasets` are the lines of their table; `published` is a table of scores of others, see
    `published_table`, and `versions` one of known files, see `read_versions`; `mixing` are those of
    rule measure_batch_mixing.
    """

    command: str
    settings: Benchmark
    provenance: Provenance
    datasets: Mapping[str, Dataset]
    published: Path
    versions: Path
    mixing: Sequence[Path]

    @property
    def config(self) -> str:
        """The configuration as YAML."""
        shown = {"benchmark": self.settings.model_dump(mode="json")}
        return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Page:
    """All that the page shows, in the order of `SECTIONS`."""

    lead: str
    scaled: bool
    headlines: Sequence[Verdict]
    tables: Mapping[str, Table | None]
    figures: Mapping[str, str]  # name -> SVG
    ranks: Sequence[RankedProtocol]
    conditions: Sequence[Verdict]
    claims: Sequence[Verdict]
    transfers: Sequence[str]
    encoder: Sequence[Verdict]
    disputed: str
    against: str  # empty: no earlier run was named
    about: About

    @property
    def sections(self) -> dict[str, str]:
        """The headings of what there is something to say of."""
        left_out = {"conditions": not self.conditions, "against": not self.against}
        left_out["mixing"] = not self.tables["mixing"]
        return {name: title for name, title in SECTIONS.items() if not left_out.get(name)}


def benchmark_page(
    results: Results,
    folders: Sequence[Path],
    qualities: Sequence[FileQuality],
    about: About,
    earlier: RunComparison | None = None,
) -> str:
    """Return the page as HTML that needs nothing beside itself.

    Parameters
    ----------
    folders
        Those of the datasets and seeds, DATASET/seedS.
    qualities
        What rule read_counts wrote of each file of cells.
    earlier
        This run beside another.
    """
    ranks = ranked_protocols(results)
    claims = judge_claims(results)
    pretraining, beside = pretraining_verdict(results), expert_verdict(results)
    disputed = disputed_cells(folders, results)
    conditions = [name for name in CONDITIONS if name in results.protocols]
    tables = {
        **_tables_of_scores(results),
        **_tables_beside_scores(results, folders, qualities, about),
        "against": comparison_table(earlier, results) if earlier else None,
        "pretraining": pretraining_table(results) if pretraining.outcome != UNTESTED else None,
        "claims": claims_table(claims),
        "disputed": disputed_table(disputed) if len(disputed) else None,
    }
    page = Page(
        lead=_lead(results),
        scaled=results.has_control,
        headlines=[compare_protocol(results, results.protocols[0]), pretraining],
        tables=tables,
        figures=draw_all(results, ranks),
        ranks=ranks,
        conditions=[compare_protocol(results, name) for name in conditions],
        claims=claims,
        transfers=judge_transfers(results),
        encoder=[pretraining, *([beside] if beside else [])],
        disputed=judge_disputed(disputed),
        against=judge_comparison(earlier) if earlier else "",
        about=about,
    )
    return _render(page)


def _tables_of_scores(results: Results) -> dict[str, Table | None]:
    return {
        "heat": heat_map(results),
        "failures": failures_table(results),
        "parts": parts_table(results),
        "cost": cost_table(results, results.protocols[0]),
        "levels": levels_table(results),
        "novelty": novelty_table(results) if "new_type" in results.protocols else None,
    }


def _tables_beside_scores(
    results: Results, folders: Sequence[Path], qualities: Sequence[FileQuality], about: About
) -> dict[str, Table | None]:
    versions, protocols = read_versions(about.versions), about.settings.protocols
    return {
        "mixing": mixing_table(about.mixing),
        "published": published_table(about.published, results),
        "datasets": datasets_cards(results, qualities, about.datasets, protocols, versions),
        "methods": methods_cards(folders, results),
        "metrics": metrics_cards(results.confidence_level),
        "checks": checks_table(check_benchmark(folders, results)),
    }


def _lead(results: Results) -> str:
    counted = {
        "method": len(results.methods),
        "dataset": len(results.datasets),
        "protocol": len(results.protocols),
        "seed": len(results.seeds),
    }
    parts = [f"{n} {name}{'s' * (n != 1)}" for name, n in counted.items()]
    return (
        f"{', '.join(parts)}. Methods that were asked the same got the same cells, and every "
        "failure is shown."
    )


def _render(page: Page) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["figure"] = inline_figure
    own = files("scbert.benchmark")
    script = own.joinpath("page.js").read_text()
    style = files("scbert.report").joinpath("page.css").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.from_string(own.joinpath("page.html.jinja").read_text()).render(
        page=page,
        sections=page.sections,
        style=Markup(style + own.joinpath("page.css").read_text()),  # ours, hence not escaped
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
    )
    return text.lstrip()
