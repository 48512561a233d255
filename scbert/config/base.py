"""Building blocks of the configuration: the section, and types that several parts use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]  # more than there are cells or genes
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]  # see training.devices
Precision = Literal["auto", "no", "bf16"]  # see training.devices
Sequence = Literal["expressed_genes", "all_genes", "paper"]  # see training.cell_batches.CellBatches


class Section(BaseModel):
    """A frozen part of the configuration in which an unknown key is an error.

    Infinity is one, too: settings travel to the steps as JSON, which has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
