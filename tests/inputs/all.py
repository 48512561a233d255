"""All variants, in the order of docs/results/inputs.md."""

from tests.inputs import cells, expression, formats, genes

VARIANTS = [*formats.VARIANTS, *expression.VARIANTS, *genes.VARIANTS, *cells.VARIANTS]
