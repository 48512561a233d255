import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from scbert import config as package
from scbert.config import (
    CompareSettings,
    Dataset,
    FinetuneSettings,
    PretrainSettings,
    ReadSettings,
    SampleSettings,
    load_config,
    load_datasets,
    load_queries,
    settings_for,
)
from scbert.config.benchmark import require_programs
from scbert.schema import schema, schema_text, with_table

ROOT = Path(__file__).parents[2]
BASE = yaml.safe_load((ROOT / "config/config.yaml").read_text())
COLUMNS = list(Dataset.model_fields)
LINE = {
    "dataset": "toy",
    "file": "toy.h5ad",
    "matrix": "auto",
    "scale": "auto",
    "label_key": "cell_type",
    "in_corpus": "no",
}


def merge(base, overlay):
    """As Snakemake merges configuration files: section by section."""
    merged = dict(base)
    for key, value in overlay.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = merge(inner, value) if both else value
    return merged


def changed(path, value):
    """The embedded configuration with one value changed; None removes the key."""
    values = copy.deepcopy(BASE)
    *sections, key = path.split(".")
    inside = values
    for section in sections:
        inside = inside[section]
    if value is None:
        del inside[key]
    else:
        inside[key] = value
    return values


def refuses(path, value, *messages):
    with pytest.raises(ValueError, match="configuration") as error:
        load_config(changed(path, value))
    for message in messages:
        assert message in str(error.value)


def test_the_embedded_configuration_is_read_as_it_is_written():
    config = load_config(BASE)
    assert config.network.dim == BASE["network"]["dim"] == config.gene2vec.dim
    assert config.finetune.seeds == tuple(BASE["finetune"]["seeds"])
    assert json.loads(config.model_dump_json()) == BASE


@pytest.mark.parametrize("name", ["panglaodb", "paper"])
def test_the_other_configurations_change_what_they_say_and_nothing_else(name):
    overlay = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config = json.loads(load_config(merge(BASE, overlay)).model_dump_json())
    assert merge(config, overlay) == config
    assert config["corpus"]["source"] == "panglaodb"
    assert config["network"]["dim"] == 200
    assert config["split"] == BASE["split"]


def test_the_paper_takes_every_gene_as_a_token():
    overlay = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    config = load_config(merge(BASE, overlay))
    assert config.sequence == "paper"
    assert config.vocabulary.max_genes == 16_906
    assert config.normalization.denominator == "vocabulary"
    assert (config.network.depth, config.network.heads) == (6, 10)


def test_a_misspelt_key_is_named_with_the_right_one():
    refuses(
        "pretrain.mask_probb",
        0.15,
        "unknown key 'pretrain.mask_probb'. Did you mean 'mask_prob'?",
        "Allowed here: mask_prob, replace_prob, validation_by,",
    )


def test_a_misspelt_key_deep_inside_is_named():
    refuses(
        "finetune.optimizer.lerning_rate",
        1,
        "unknown key 'finetune.optimizer.lerning_rate'. Did you mean 'learning_rate'?",
        "Allowed here: epochs, learning_rate, warmup,",
    )


def test_a_misspelt_section_is_named():
    refuses("pretrian", {}, "unknown key 'pretrian'. Did you mean 'pretrain'?", "corpus, datasets")


def test_a_key_unlike_any_other_gets_the_list_only():
    with pytest.raises(
        ValueError, match=r"unknown key 'split.zzzz'. Allowed here: method, n_folds"
    ):
        load_config(changed("split.zzzz", 1))


def test_a_missing_key_is_named():
    refuses("gene2vec.seed", None, "key 'gene2vec.seed' is missing. Add it; config/config.yaml")


@pytest.mark.parametrize(
    ("path", "value", "bound"),
    [
        ("pretrain.mask_prob", 1.5, "less than 1"),
        ("pretrain.mask_prob", 0, "greater than 0"),
        ("pretrain.replace_prob", 1.01, "less than or equal to 1"),
        ("network.depth", 0, "greater than or equal to 1"),
        ("network.attention", "perfomer", "'performer' or 'exact'"),
        ("vocabulary.max_genes", 65_536, "less than or equal to 65535"),
        ("binning.n_bins", 16, "less than or equal to 15"),
        ("normalization.target_sum", -1, "greater than 0"),
        ("pairs.min_correlation", 1, "less than 1"),
        ("split.seed", -1, "greater than or equal to 0"),
        ("pretrain.seed", 2**32, "less than 4294967296"),
        ("finetune.optimizer.clip_norm", 0, "greater than 0"),
        ("annotate.min_gene_overlap", 1.1, "less than or equal to 1"),
        ("explain.deletions", [], "at least 1 item"),
        ("corpus.name", "two words", "should match pattern"),
        ("network.dim", "wide", "valid integer"),
        ("network.dim", 64.5, "valid integer"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_bound(path, value, bound):
    refuses(path, value, f"key '{path}' is {value!r}: ", bound)


def test_every_wrong_key_is_named_at_once():
    values = changed("pretrain.mask_prob", 2) | {"sequence": "some_genes"}
    with pytest.raises(ValueError, match=r"(?s)(sequence.*mask_prob|mask_prob.*sequence)"):
        load_config(values)


def test_gene_vectors_of_another_width_are_refused():
    refuses("gene2vec.dim", 32, "gene2vec.dim is 32 and network.dim is 64", "make them equal")


def test_a_width_that_the_heads_do_not_divide_is_refused():
    refuses("network.heads", 7, "dim is 64", "multiple of heads (7)", "choose another dim")


def test_a_split_without_training_cells_is_refused():
    refuses("split.test_fraction", 0.8, "test_fraction + validation_fraction must leave cells")


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config(BASE).split.seed = 1


def table(tmp_path, *lines, columns=COLUMNS):
    path = tmp_path / "datasets.tsv"
    rows = ["\t".join(str(line.get(column, "")) for column in columns) for line in lines]
    path.write_text("\n".join(["\t".join(columns), *rows, ""]))
    return path


def test_load_datasets_by_name_and_in_order(tmp_path):
    found = load_datasets(table(tmp_path, LINE, LINE | {"dataset": "b", "in_corpus": "yes"}))
    assert list(found) == ["toy", "b"]
    assert found["toy"].label_key == "cell_type"
    assert found["toy"].batch_key == ""
    assert [dataset.joins_corpus for dataset in found.values()] == [False, True]


def test_load_datasets_can_do_without_what_is_for_readers_only(tmp_path):
    """No step is given it: a corrected licence must not make a dataset be read again."""
    known = {"licence", "labels_from", "sha256", "cell_table", "cell_table_sha256", "types"}
    short = [name for name in COLUMNS if name not in known]
    assert load_datasets(table(tmp_path, LINE, columns=short))["toy"].licence == ""
    one = load_datasets(table(tmp_path, LINE | {"licence": "CC0", "labels_from": "authors"}))["toy"]
    assert (one.licence, one.labels_from) == ("CC0", "authors")
    assert set(one.model_dump()) == set(short)


@pytest.mark.parametrize("name", [BASE["datasets"], "config/benchmark/datasets.tsv"])
def test_the_tables_of_datasets_of_the_project_are_right(name):
    datasets = load_datasets(ROOT / name)
    assert "pbmc68k_reduced" in datasets
    for dataset in datasets.values():
        for file in (dataset.ontology, dataset.types):
            assert not file or (ROOT / file).is_file()


def test_what_is_known_of_files_is_no_setting_of_a_step(tmp_path):
    """The rules give a step the files; the cells are not read again for another name of a table."""
    more = {"sha256": "A" * 64, "cell_table": "https://site.org/x?id=1#cells.tsv", "types": "t.tsv"}
    one = load_datasets(table(tmp_path, LINE | more))["toy"]
    assert (one.sha256, one.types) == ("A" * 64, "t.tsv")
    assert not set(more) & set(one.model_dump())
    with pytest.raises(ValueError, match=r"'cell_table' is .* ends in none of .*\.tsv"):
        load_datasets(table(tmp_path, LINE | {"cell_table": "http://a/b.h5ad"}))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("joined:toy", "must name two or more other lines"),
        ("joined:toy+", "must name two or more other lines"),
        ("joined:toy+b", r"'both' is made of 'b' \(joined:toy\+b\), but no line above it"),
    ],
)
def test_a_joined_dataset_is_made_of_lines_above_it(file, message, tmp_path):
    both = LINE | {"dataset": "both", "file": file}
    with pytest.raises(ValueError, match=message):
        load_datasets(table(tmp_path, LINE, both, LINE | {"dataset": "b"}))
    lines = [LINE, LINE | {"dataset": "b"}, both | {"file": "joined:toy+b"}]
    assert load_datasets(table(tmp_path, *lines))["both"].parts == ["toy", "b"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [LINE | {"scale": "log2"}],
            r"line 2: key 'scale' is 'log2': .*'auto', 'counts', 'expected_counts' or 'log1p'",
        ),
        ([LINE, LINE], "line 3: dataset 'toy' appears twice"),
        (
            [LINE, LINE | {"dataset": "two words"}],
            "line 3: key 'dataset' is 'two words': .*pattern",
        ),
        ([LINE | {"in_corpus": "maybe"}], "line 2: key 'in_corpus' is 'maybe': .*'yes' or 'no'"),
        ([], "lists no dataset. Add at least one line"),
    ],
)
def test_load_datasets_names_line_and_value(tmp_path, lines, message):
    with pytest.raises(ValueError, match=r"datasets.tsv.*" + message):
        load_datasets(table(tmp_path, *lines))


@pytest.mark.parametrize("content", [b'a\t"open', b"a\xe4\tb", b"a\t" + b"x" * 200_000])
def test_load_datasets_names_a_file_that_is_no_table(tmp_path, content):
    """A quotation mark that is not closed would swallow the lines that follow."""
    path = table(tmp_path, LINE)
    path.write_bytes(path.read_bytes() + content)
    with pytest.raises(ValueError, match=r"datasets.tsv cannot be read after line"):
        load_datasets(path)


def test_infinity_is_refused_because_it_does_not_reach_the_steps():
    values = copy.deepcopy(BASE)
    values["network"]["qk_rms"] = float("inf")
    with pytest.raises(ValueError, match=r"network.qk_rms"):
        load_config(values)


def test_load_datasets_reads_what_an_editor_writes(tmp_path):
    """A byte-order mark, ends of lines of Windows, spaces and tabs at the ends, empty lines."""
    path = table(tmp_path, LINE, LINE | {"dataset": "b"})
    head, first, *rest = path.read_text().splitlines()
    lines = [head + " \t", first + "  ", "", " \t ", *rest, "\t\t"]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert list(load_datasets(path)) == ["toy", "b"]
    path.write_text("\n".join([head, first, "", " \t ", first]))
    with pytest.raises(ValueError, match=r"datasets.tsv, line 5: dataset 'toy' appears twice"):
        load_datasets(path)


@pytest.mark.parametrize("name", ["a;b.h5ad", "{sample}.h5ad", "a}.h5ad"])
@pytest.mark.parametrize("key", ["file", "ontology"])
def test_load_datasets_refuses_names_that_snakemake_would_take_apart(tmp_path, name, key):
    with pytest.raises(ValueError, match=rf"line 2: key '{key}' is .*the name holds '[;{{}}]'"):
        load_datasets(table(tmp_path, LINE | {key: name}))
    plain = 'my data (1)/it\'s "x" $1.h5ad'
    assert getattr(load_datasets(table(tmp_path, LINE | {key: plain}))["toy"], key) == plain
    address = "https://site.org/get;id={1}?x=1#cells.h5ad"
    assert load_datasets(table(tmp_path, LINE | {"file": address}))["toy"].file == address


def test_load_datasets_refuses_other_columns(tmp_path):
    columns = [column for column in COLUMNS if column != "label_key"]
    with pytest.raises(ValueError, match="line 2: key 'label_key' is missing"):
        load_datasets(table(tmp_path, LINE, columns=columns))
    columns = [*COLUMNS[:4], "label", *COLUMNS[5:]]
    with pytest.raises(ValueError, match=r"(?s)unknown key 'label'. Did you mean 'label_key'"):
        load_datasets(table(tmp_path, LINE, columns=columns))


def test_load_datasets_refuses_a_line_with_too_many_fields(tmp_path):
    path = table(tmp_path, LINE)
    path.write_text(path.read_text().rstrip("\n") + "\tmore\n")
    with pytest.raises(ValueError, match="line 2: unknown key"):
        load_datasets(path)


QUERY = {"query": "a", "file": "a.h5ad", "model": "blood", "matrix": "auto", "scale": "auto"}
QUERY |= {"library_size_key": "", "cluster_key": "", "scattered": "no"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": ""}, "line 2: key 'model' is '': a model is needed: blood, results/models/DAT"),
        ({"scattered": ""}, "line 2: key 'scattered' is '': Input should be 'yes' or 'no'"),
        ({"file": "a{b}.h5ad"}, "line 2: key 'file' is 'a{b}.h5ad': the name holds '{'"),
    ],
)
def test_load_queries_names_line_and_value(tmp_path, changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_queries(table(tmp_path, QUERY | changed, columns=list(QUERY)))


def test_load_queries_takes_an_empty_table(tmp_path):
    """Without cells to be named, all else can run."""
    assert list(load_queries(ROOT / BASE["queries"])) == ["celltypist_cells", "pbmc68k_cells"]
    path = table(tmp_path, QUERY, columns=list(QUERY))
    assert load_queries(path)["a"].model == "blood"
    path.write_text(path.read_text().splitlines()[0])
    assert load_queries(path) == {}


def test_load_datasets_refuses_a_missing_table(tmp_path):
    with pytest.raises(ValueError, match=r"none.tsv does not exist. Give a table like config/data"):
        load_datasets(tmp_path / "none.tsv")


@pytest.mark.parametrize(
    ("step", "more"),
    [
        (
            ReadSettings,
            {"sample": "a", "source": "b", "matrix": "X", "scale": "auto", "dataset": None}
            | {"leave_out": False},
        ),
        (SampleSettings, {"sample": "SRA1_SRS1", "panglaodb": BASE["corpus"]["panglaodb"]}),
        (PretrainSettings, {}),
        (FinetuneSettings, {"seed": 2021}),
        (CompareSettings, {}),
    ],
)
def test_settings_for_contains_what_a_step_needs_and_no_more(step, more):
    """And comes back from the JSON that a rule passes as the same settings."""
    config = load_config(BASE)
    settings = settings_for(step, config, **more)
    text = settings.model_dump_json()
    found = json.loads(text)
    assert list(found) == list(step.model_fields)
    for key in found:
        assert found[key] == (more[key] if key in more else BASE[key])
    assert step.model_validate_json(text).model_dump_json() == text


def test_settings_for_refuses_a_step_that_misses_something():
    with pytest.raises(ValueError, match=r"(?s)FinetuneSettings.*seed.*Field required"):
        settings_for(FinetuneSettings, load_config(BASE))


def test_every_setting_stands_in_the_file_with_the_values():
    """No default in the code: a key that the file lacks would be missing."""

    def required(model):
        for name, field in model.model_fields.items():
            assert field.is_required(), f"{model.__name__}.{name} has a default"
            if hasattr(field.annotation, "model_fields"):
                required(field.annotation)

    required(package.Config)


def test_the_schema_for_editors_is_in_step_with_the_code():
    """If it is not: make schema."""
    assert (ROOT / "config/config.schema.yaml").read_text() == schema_text()
    page = (ROOT / "config/README.md").read_text()
    assert page == with_table(page)
    for key in ("`device`", "### finetune", "`optimizer.checkpoints.keep`", "| number ≥ 0, ≤ 1 |"):
        assert key in page


def test_the_schema_of_the_catalogue_of_workflows_is_that_of_editors():
    """It looks there, shows what it finds as a table, and follows no references."""
    found = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert found == schema()
    heads = found["properties"]["network"]["properties"]["heads"]
    bounds = {"minimum": 1, "exclusiveMaximum": 2**31}
    assert heads == {"default": 4, "description": "paper: 10", "type": "integer", **bounds}
    assert "$ref" not in str(found)


def test_a_method_without_its_program_is_named(tmp_path):
    (tmp_path / "environment.yaml").touch()
    with pytest.raises(ValueError, match=r"method 'mine' .* predict.py is not in it"):
        require_programs({"mine": str(tmp_path)})
