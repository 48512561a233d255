import numpy as np
import pytest

from scbert.benchmark.task_files import TaskCells, read_answers

TASK = TaskCells(
    learned=np.array(["a", "b"]),
    taught=np.array(["B", "T"]),
    query=np.array(["x", "y", "z"]),
    true=np.array(["B", "T", "NK"]),
)


@pytest.fixture
def answers(tmp_path):
    def read(*lines):
        file = tmp_path / "answers.tsv"
        file.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
        return read_answers(file, TASK)

    return read


def test_answers_come_in_the_order_of_the_query(answers):
    found = answers("cell label p:B p:T", "z B .6 .4", "y T .1 .9", "x B .8 .2")
    assert found.label.tolist() == ["B", "T", "B"]
    assert found.confidence.tolist() == [0.8, 0.9, 0.6]
    assert np.allclose(found.novelty, [0.2, 0.1, 0.4])


def test_probabilities_that_were_rounded_up_are_no_confidence_above_1(answers):
    found = answers("cell label p:B p:T", "x B 1.005 0", "y T 0 1", "z B .6 .4")
    assert found.confidence.tolist() == [1, 1, 0.6]


def test_probabilities_and_novelty_may_be_missing(answers):
    found = answers("cell label", "x B", "y T", "z B")
    assert found.confidence is None
    assert found.novelty is None


def test_a_method_may_say_itself_what_is_novel_and_what_its_parts_say(answers):
    found = answers("cell label novelty label:svm", "x B 1 T", "y T 2 T", "z B 3 B")
    assert found.novelty.tolist() == [1, 2, 3]
    assert found.parts["svm"].tolist() == ["T", "T", "B"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("cell label", "x B", "y T"), "lacks 1 cells, such as 'z'"),
        (("cell label", "x B", "y T", "z B", "w B"), "holds 1 cells, such as 'w'"),
        (("cell label", "x B", "x B", "y T", "z B"), "'x' is there twice"),
        (("cell label", "x B", "y T", "z NK"), "'NK', a type that was not taught"),
        (
            ("cell label p:B p:T", "x B 1 0", "y T 1 1", "z B -1 2"),
            "of 2 cells are wrong: those of cell 'y' add up to 2, and the lowest is 1",
        ),
        (
            ("cell label p:B p:T", "x B 1 0", "y T 0 1", "z B -1 2"),
            "those of cell 'z' add up to 1, and the lowest is -1",
        ),
        (
            ("cell label p:B p:T", "x B 1 0", "y T 0 one", "z B inf 0"),
            "column p:B holds 'inf' for cell 'z', but it must hold finite",
        ),
        (("cell label novelty", "x B 1", "y T", "z B 2"), "column novelty holds '' for cell 'y'"),
        (("cell label p:NK", "x B 1", "y T 1", "z B 1"), "p:NK names a type"),
        (("cell type", "x B"), "has no column label"),
    ],
)
def test_answers_against_the_contract_are_refused(answers, lines, message):
    with pytest.raises(ValueError, match=message):
        answers(*lines)


def test_cells_of_a_type_that_was_not_taught_are_not_known():
    assert TASK.known.tolist() == [True, True, False]
