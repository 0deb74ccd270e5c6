"""Reconciliation: our sums beside upstream's, by day and model, and whether they agree.

Each model must agree over the whole span, and so must the total. Days only show where a difference comes from: the two
sides may count a call at midnight on different days.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

MEASURES = ("input_tokens", "output_tokens", "cost_nanousd")
"""What must agree. Requests are only shown: the two sides count failed calls in different ways."""

Cell = tuple[str, str]
"""A UTC day as 2026-11-22, and a model."""


class Sums(NamedTuple):
    """The sums of some calls."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """The sum of both."""
        return Sums(*(mine + its for mine, its in zip(self, other, strict=True)))


Sheet = Mapping[Cell, Sums]


@dataclass(slots=True, frozen=True)
class Comparison:
    """Our sums and upstream's of the same calls."""

    ours: Sums
    theirs: Sums

    def difference(self, measure: str) -> int:
        """Upstream's value minus ours."""
        difference: int = getattr(self.theirs, measure) - getattr(self.ours, measure)
        return difference

    def differing(self, tolerance: Fraction = Fraction(0)) -> list[str]:
        """The measures that differ by more than this share of the larger side."""
        return [measure for measure in MEASURES if self._share(measure) > tolerance]

    def _share(self, measure: str) -> Fraction:
        larger = max(getattr(self.ours, measure), getattr(self.theirs, measure))
        return Fraction(abs(self.difference(measure)), larger) if larger else Fraction(0)


@dataclass(slots=True, frozen=True)
class Reconciliation:
    """Two sheets compared. It has every cell and model of either side, in order."""

    cells: Mapping[Cell, Comparison]
    models: Mapping[str, Comparison]
    total: Comparison
    tolerance: Fraction

    @property
    def outside(self) -> list[str]:
        """The models that differ by more than the tolerance."""
        return [model for model, comparison in self.models.items() if comparison.differing(self.tolerance)]

    @property
    def within(self) -> bool:
        """Whether both sides agree."""
        return not self.outside and not self.total.differing(self.tolerance)


def reconcile(ours: Sheet, theirs: Sheet, tolerance: Fraction) -> Reconciliation:
    """Compare our sums with upstream's. `tolerance` is a share of the larger side."""
    cells = {cell: Comparison(ours.get(cell, Sums()), theirs.get(cell, Sums())) for cell in sorted({*ours, *theirs})}
    models = _summed(cells, lambda cell: cell[1])
    total = _summed(cells, lambda _: "").get("", Comparison(Sums(), Sums()))
    return Reconciliation(cells, dict(sorted(models.items())), total, tolerance)


def sheet_of(lines: Iterable[tuple[Cell, Sums]]) -> dict[Cell, Sums]:
    """A sheet from lines; several lines may belong to one cell."""
    sheet: dict[Cell, Sums] = {}
    for cell, sums in lines:
        sheet[cell] = sheet.get(cell, Sums()).plus(sums)
    return sheet


def _summed(cells: Mapping[Cell, Comparison], group_of: Callable[[Cell], str]) -> dict[str, Comparison]:
    groups: dict[str, Comparison] = {}
    for cell, one in cells.items():
        so_far = groups.get(group_of(cell), Comparison(Sums(), Sums()))
        groups[group_of(cell)] = Comparison(so_far.ours.plus(one.ours), so_far.theirs.plus(one.theirs))
    return groups
