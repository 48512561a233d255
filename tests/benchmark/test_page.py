"""The page, from a made-up result: whole, safe, and working in a browser where there is one."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from scbert.benchmark import page as pages
from scbert.benchmark.batch_mixing import COLUMNS as MIXING
from scbert.benchmark.batch_mixing import mixing_table
from scbert.benchmark.cards import datasets_cards
from scbert.benchmark.checks import check_benchmark
from scbert.benchmark.claims import judge_claims
from scbert.benchmark.heat_map import heat_map
from scbert.benchmark.page_tables import contrast, shaded
from scbert.benchmark.results import Results
from scbert.benchmark.score_tables import cost_table
from scbert.benchmark.summary import COLUMNS, read_rooms
from scbert.config import load_datasets
from scbert.provenance import provenance
from scbert.steps.write_benchmark import write_benchmark
from tests.benchmark.made_up import DEFAULTS, QUICK, SKILL, make_room, methods, quality_of

ROOT = Path(__file__).parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
SEEDS = (1, 2)
NAMES = [*SKILL, "encoder", "random_encoder"]
BROKEN = [("perceptron", "label_noise"), ("linear_svm", "across_batches")]
pytestmark = pytest.mark.slow


def published(file):
    """Scores of others: one of the made-up dataset, one of another."""
    columns = ["dataset", "protocol", "method", "accuracy", "macro_f1", "split", "source"]
    lines = [["toy", "within_dataset", "Other <b>", "0.5", "", "5 folds", "Somebody 2020"]]
    lines += [["zheng68k", "within_dataset", "Elsewhere", "0.9", "0.9", "5 folds", "Somebody"]]
    pd.DataFrame(lines, columns=columns).to_csv(file, sep="\t", index=False)
    return file


def table_of_datasets(file):
    """One line, with where the labels come from but no licence."""
    line = {"dataset": "toy", "file": "toy.h5ad", "matrix": "X", "scale": "counts"}
    line |= {"label_key": "cell_type", "batch_key": "", "library_size_key": "", "in_corpus": "no"}
    line |= {"ontology": "", "labels_from": "a made-up <study>"}
    pd.DataFrame([line]).to_csv(file, sep="\t", index=False)
    return file


def mixing(file):
    """Two embeddings of the made-up dataset, with one metric and the sums."""
    scores = {"iLISI": 0.25, "Bio conservation": 0.7, "Batch correction": 0.5, "Total": 0.62}
    lines = [["toy", name, *one] for name in ("scbert", "pca") for one in scores.items()]
    pd.DataFrame(lines, columns=MIXING).to_csv(file, sep="\t", index=False)
    return file


def versions(file):
    """The made-up dataset by the checksum of its file."""
    file.write_text(f"sha256\tversion\n{quality_of('toy')['sha256']}\tthe first <release>\n")
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a made-up result with one dataset, and what the rule makes of it."""
    root = tmp_path_factory.mktemp("benchmark")
    skills = SKILL | {"encoder": 0.7, "random_encoder": 0.5}
    rooms = [make_room(root, "toy", seed, skills, BROKEN) for seed in SEEDS]
    (root / "toy.json").write_text(json.dumps(quality_of("toy")))
    (root / "config.json").write_text(DEFAULTS.model_dump_json())
    table = pd.DataFrame([line.model_dump() for line in methods(*NAMES).values()])
    table.to_csv(root / "methods.tsv", sep="\t", index=False)
    write_benchmark(
        [room / "scores.tsv" for room in rooms],
        [root / "toy.json"],
        [mixing(root / "mixing.tsv")],
        methods=root / "methods.tsv",
        datasets=table_of_datasets(root / "datasets.tsv"),
        published=published(root / "published.tsv"),
        versions=versions(root / "versions.tsv"),
        chosen=NAMES,
        against="",
        config=root / "config.json",
        command="snakemake benchmark",
        table=root / "benchmark.tsv",
        data=root / "benchmark.json",
        page=root / "benchmark.html",
        settings=QUICK,
    )
    return root


@pytest.fixture(scope="module")
def text(made):
    return (made / "benchmark.html").read_text()


class Found(HTMLParser):
    """Ids, links and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.addresses, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.links += [value] if name == "href" and tag == "a" else []
            self.addresses += [value] if name in {"src", "action", "poster", "srcset"} else []


def test_the_long_table_has_every_score(made):
    table = pd.read_csv(made / "benchmark.tsv", sep="\t", keep_default_na=False, dtype=str)
    assert tuple(table) == COLUMNS
    assert set(table.seed) == {"1", "2"}
    assert set(table.method) == {*NAMES, "scbert.discriminant"}
    failed = table[table.exit != "0"]
    assert set(failed.value) == {""}
    assert set(failed.reason[failed.protocol == "across_batches"]) == {
        "fold 0: MemoryError: <none> left"
    }
    assert set(failed.reason[failed.protocol == "label_noise"]) == {"MemoryError: <none> left"}


def test_the_json_follows_its_schema(made):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "config/benchmark.schema.json").read_text())
    content = json.loads((made / "benchmark.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)
    assert {line["interval"] for line in content["means"]} >= {"seeds", ""}


def test_the_page_has_every_section_and_needs_nothing_beside_itself(text):
    found = Found(text)
    assert len(found.ids) == len(set(found.ids))
    assert set(pages.SECTIONS) - {"against"} <= set(found.ids)  # no earlier run was named
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert not found.addresses
    assert "://" not in text
    assert not {"link", "iframe", "img", "object"} & set(found.tags)
    assert len(text) < 5e6
    for words in (
        "Too few datasets to rank",
        "Does pretraining help?",
        "Robust to batch effects",
        "not testable here",
        "Runs that failed",
        "snakemake benchmark",
        "Scbert: discriminant",
    ):
        assert words in text


def test_published_scores_stand_beside_ours_where_the_dataset_is_the_same(text):
    (table,) = re.findall(r'<table id="table-published".*?</table>', text, re.DOTALL)
    assert table.count(">this run<") == len(SKILL)
    assert "Other &lt;b&gt;" in table
    assert "Elsewhere" not in text


def test_that_no_score_is_published_is_said(made, tmp_path):
    file = published(tmp_path / "published.tsv")
    file.write_text(file.read_text().replace("toy", "another"))
    known = versions(tmp_path / "versions.tsv")
    about = pages.About("snakemake", DEFAULTS.benchmark, provenance(), {}, file, known, [])
    folder = made / "toy/seed1"
    page = pages.benchmark_page(results_of(folder), [folder], [quality_of("toy")], about)
    assert "Published scores: config/benchmark/published.tsv has none of a dataset" in page
    assert "table-published" not in page


def test_the_card_of_a_dataset_says_what_is_known_of_it(text):
    (table,) = re.findall(r'<table id="table-datasets".*?</table>', text, re.DOTALL)
    card = re.sub(r"<[^>]*>", "|", table.partition("<tbody>")[2])
    assert "|a made-up &lt;study&gt;|" in card
    assert "|not stated|" in card
    assert "the first &lt;release&gt;" in card
    assert "|3||2|" in card  # batches, and folds of them


def test_a_card_lacks_batches_where_an_earlier_version_read_the_cells(made):
    quality = {name: value for name, value in quality_of("toy").items() if name != "batches"}
    protocols = DEFAULTS.benchmark.protocols
    table = datasets_cards(results_of(made / "toy/seed1"), [quality], {}, protocols, {})
    shown = {head.text: cell.text for head, cell in zip(table.heads, table.rows[0], strict=True)}
    assert shown["Batches"] == "\N{EN DASH}"
    assert shown["Labels from"] == "not stated"


def test_the_card_of_an_archive_says_which_version_its_table_asked_for(made):
    """What is read is a folder, whose checksum is another one."""
    (line,) = load_datasets(table_of_datasets(made / "more.tsv")).values()
    line = line.model_copy(update={"sha256": "A" * 64})
    results, protocols = results_of(made / "toy/seed1"), DEFAULTS.benchmark.protocols
    table = datasets_cards(
        results, [quality_of("toy")], {"toy": line}, protocols, {"a" * 64: "2nd"}
    )
    assert [cell.small for cell in table.rows[0] if cell.small][-1] == "2nd"


def test_names_from_outside_are_text_only(text):
    """A type is called <T> cell, and a reason holds <none>."""
    assert "<T>" not in text
    assert "<none>" not in text
    assert "&lt;T&gt; cell" in text


def test_a_disputed_cell_is_listed(text):
    table = text.partition('id="disputed"')[2].partition("</section>")[0]
    assert "toy-0" in table


def test_a_failure_is_hatched_and_says_why(made):
    table = heat_map(results_of(*(made / f"toy/seed{seed}" for seed in SEEDS)))
    heads = [head.text for head in table.heads]
    rows = {row[0].text: dict(zip(heads, row, strict=True)) for row in table.rows}
    assert rows["Perceptron"]["Label noise"].look == "failed"
    assert "MemoryError" in rows["Perceptron"]["Label noise"].note
    assert rows["Perceptron"]["Overall"].look == "partly"
    assert rows["Perceptron"]["Overall"].value > 0.4  # a failure is no 0 in the mean
    assert rows["Encoder"]["Overall"].text == "\N{EN DASH}"
    assert rows["Random"]["Within a dataset"].value == 0
    assert next(iter(rows)) == "Scbert"


def results_of(*folders):
    return Results(read_rooms(folders), methods(*NAMES), 0.95)


def test_the_checks_find_nothing_wrong_but_what_failed(made):
    folders = [made / f"toy/seed{seed}" for seed in SEEDS]
    found = {one.name: one for one in check_benchmark(folders, results_of(*folders))}
    assert max(one.severity for one in found.values()) < 3
    assert found["Order of the controls by accuracy"].severity == 0
    assert found["Runs that failed"].severity == 1
    same = found["Scored cells, the same for all methods"]
    assert same.severity == 0
    assert same.found.startswith("Only answers to exactly the cells asked about are scored")


def test_the_checks_find_a_cell_that_was_learned_from_and_asked_about(made, tmp_path):
    folder = tmp_path / "toy/seed1"
    shutil.copytree(made / "toy/seed1", folder)
    file = folder / "tasks/within_dataset-all-0.tsv"
    lines = file.read_text().splitlines()
    learned = next(line for line in lines if "\tlearned\t" in line)
    file.write_text("\n".join([*lines, learned.replace("learned", "query")]) + "\n")
    wrong = [one for one in check_benchmark([folder], results_of(folder)) if one.severity == 3]
    assert [one.name for one in wrong] == [
        "Cells asked about, by checksum",
        "No cell both learned from and asked about",
    ]
    assert all("toy/seed1/within_dataset-all-0" in one.found for one in wrong)


def test_claims_are_judged_by_the_whole_interval(made):
    found = {one.claim: one for one in judge_claims(results_of(made / "toy/seed1"))}
    assert found["Interpretable"].outcome == "not testable here"
    assert "Logistic regression" in found["Learns from few labels"].sentence
    assert {one.outcome for one in found.values()} <= {
        *("holds", "does not hold", "not shown", "not testable here"),
    }


@pytest.mark.parametrize("share", [0, 0.2, 0.4, 0.5, 0.55, 0.6, 0.8, 1])
def test_text_can_be_read_on_every_shade(share):
    """The contrast that WCAG asks for is 4.5."""
    paper, ink = re.findall(r"#(\w{6})", shaded(share))
    rgb = [[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in (paper, ink)]
    assert contrast(*rgb) >= 4.5


PROBE = """
window.addEventListener("load", () => {
  const found = { width: innerWidth, needed: document.documentElement.scrollWidth, tables: 0 };
  const table = document.getElementById("table-heat-map");
  const head = table.tHead.rows[0].cells[1], button = head.querySelector("button");
  const column = () => Array.from(table.tBodies[0].rows, (row) => row.cells[1].dataset.value);
  button.focus();
  found.focused = document.activeElement === button;
  button.click();
  found.down = [head.getAttribute("aria-sort"), column()];
  button.click();
  found.up = [head.getAttribute("aria-sort"), column()];
  found.sorted = table.querySelectorAll("[aria-sort]").length;
  URL.createObjectURL = (blob) => {
    found.tables += 1;
    blob.text().then((csv) => {
      if (csv.startsWith("Method,Overall")) found.csv = csv;
      document.body.dataset.found = JSON.stringify(found);
    });
    return "#";
  };
  for (const one of document.querySelectorAll("button.download")) one.click();
  found.downloads = document.querySelectorAll("button.download").length;
});
"""


def browse(file, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,844"]
    command += ["--virtual-time-budget=5000", "--enable-logging=stderr", *options, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page with")
def test_the_page_works_in_a_browser(made, text, tmp_path):
    said = browse(made / "benchmark.html", "--dump-dom")
    assert "CONSOLE" not in said.stderr  # no error, and nothing that the page's policy forbids
    assert 'class="sort"' in said.stdout  # the script ran under that policy
    probed = re.sub(r"<meta http-equiv=[^>]*>", "", text)
    file = tmp_path / "probed.html"
    file.write_text(probed.replace("</body>", f"<script>{PROBE}</script></body>"))
    (attribute,) = re.findall(r'data-found="([^"]*)"', browse(file, "--dump-dom").stdout)
    found = json.loads(attribute.replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&"))
    assert found["needed"] <= found["width"]  # nothing is wider than the phone
    assert found["focused"]
    down, up = ([float(x) for x in found[way][1] if x] for way in ("down", "up"))
    assert (found["down"][0], found["up"][0]) == ("descending", "ascending")
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert found["up"][1][-1] == ""  # what has no number comes last either way
    assert found["sorted"] == 1
    assert found["downloads"] == found["tables"] > 10
    assert len(found["csv"].splitlines()) == 1 + len(NAMES)


def test_costs_hold_processor_time_beside_wall_time(made):
    table = cost_table(results_of(made / "toy/seed1"), "within_dataset")
    shown = {head.text: cell.value for head, cell in zip(table.heads, table.rows[0], strict=True)}
    wall, processor = shown["Time per 1,000 cells"], shown["Processor time per 1,000 cells"]
    assert processor == pytest.approx(0.8 * wall)


def test_batches_that_mix_have_a_table_if_they_were_measured(text):
    (table,) = re.findall(r'<table id="table-mixing".*?</table>', text, re.DOTALL)
    heads = re.findall(r"<span>(.*?)</span>", table)
    sums = ["Bio conservation", "Batch correction", "Total"]
    assert heads == ["Dataset", "Vectors", *sums, "iLISI"]
    assert table.index("scBERT's encoder".replace("'", "&#39;")) < table.index("Principal")
    assert table.count(">0.620<") == 2
    assert mixing_table([]) is None
