"""Each form of the same cells gives the same labels, a warning with a number, or advice that works.

docs/results/inputs.md shows what each gives: `make bench-inputs`.
"""

import re
from collections.abc import Mapping

import pytest

from tests.inputs.all import VARIANTS
from tests.inputs.variant import outcomes


def parameter(variant):
    return pytest.param(variant, id=f"{variant.group}: {variant.name}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("original")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [parameter(variant) for variant in VARIANTS])
def test_no_file_is_named_wrongly_in_silence(variant, tmp_path, shared):
    first, after_advice = outcomes(variant, tmp_path, shared)
    assert not first.crashed, first.error
    if first.error:
        assert variant.refused, first.error
        assert re.search(variant.refused, first.error), first.error
        if isinstance(variant.fix, Mapping):
            assert all(value in first.error for value in variant.fix.values()), first.error
        assert after_advice is None or after_advice.verdict in ("same", "warned"), after_advice
    else:
        assert first.verdict in ("same", "warned"), first


def test_the_names_of_variants_are_unique():
    names = [(variant.group, variant.name) for variant in VARIANTS]
    assert len(names) == len(set(names)) >= 120
