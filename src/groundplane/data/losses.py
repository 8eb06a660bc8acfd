"""What a conversion loses, collected while it runs and told as short sentences."""

from dataclasses import dataclass

from groundplane.data.libraries import ArrowColumn, ArrowTable, is_text, pa, pc
from groundplane.data.meta import ColumnMeta, TableMeta


class Losses:
    """Collects losses; columns that lose the same thing share one sentence."""

    def __init__(self, earlier: tuple[str, ...] = ()) -> None:
        self._sentences = list(earlier)
        self._groups: dict[tuple[str, str], list[str]] = {}

    def column(self, what: str, column: str, why: str) -> None:
        """Note that `what` of `column` is lost, e.g. `value labels` of `sex` (`csv holds none`)."""
        names = self._groups.setdefault((what, why), [])
        if column not in names:
            names.append(column)

    def note(self, sentence: str) -> None:
        """Note a loss in its own words."""
        if sentence not in self._sentences:
            self._sentences.append(sentence)

    def sentences(self) -> list[str]:
        """Return the losses, one short sentence each, naming every column."""
        grouped = [f"{what} of {quoted(names)} ({why})" for (what, why), names in self._groups.items()]
        return [*self._sentences, *grouped]


@dataclass(frozen=True, slots=True)
class Holds:
    """What a format can hold of a table's metadata."""

    labels: bool = False
    value_labels: bool = False
    missing_codes: bool = False
    measure: bool = False
    table_label: bool = False


def note_metadata(losses: Losses, meta: TableMeta, table: ArrowTable, target: str, holds: Holds) -> None:
    """Note the metadata of the table's columns that the target has no place for."""
    none = f"{target} holds none"
    if meta.label and not holds.table_label:
        losses.note(f"the table's label '{meta.label}' ({none})")
    for name in table.column_names:
        column = meta.column(name)
        if column.label and not holds.labels:
            losses.column("the label", name, none)
        if column.value_labels and not holds.value_labels:
            losses.column("value labels", name, none)
        if column.measure and not holds.measure:
            losses.column("the measurement level", name, none)
        if column.has_missing and not holds.missing_codes:
            losses.column("missing codes", name, f"{target} holds none; the codes stay as ordinary values")


def note_codes_in_use(losses: Losses, meta: TableMeta, table: ArrowTable, kept: str) -> None:
    """Note the columns with values that are missing codes, for a target that keeps which ones they are where few look.

    A 99 for "refused" in a mean is the classical mistake, so that keeping the code in some metadata is not enough said.
    """
    for name in table.column_names:
        column = meta.column(name)
        if column.has_missing and _has_codes(table.column(name), column):
            losses.column("missing codes", name, kept)


def _has_codes(values: ArrowColumn, meta: ColumnMeta) -> bool:
    kind = values.type
    if is_text(kind):
        codes = [code for code in meta.missing_codes if isinstance(code, str)]
        return bool(pc.any(pc.is_in(values, pa.array(codes, kind))).as_py())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return False
    numbers = values.cast(pa.float64(), safe=False)
    ranges = [*meta.missing_ranges, *((code, code) for code in meta.missing_codes if not isinstance(code, str))]
    return any(
        pc.any(pc.and_(pc.greater_equal(numbers, float(low)), pc.less_equal(numbers, float(high)))).as_py()
        for low, high in ranges
    )


def note_categories(losses: Losses, table: ArrowTable, target: str) -> None:
    """Note the category columns, for a target that keeps their text and forgets which categories there are."""
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_dictionary(kind):
            losses.column("categories and their order", name, f"{target} holds their text only")


def quoted(names: list[str]) -> str:
    """Write names for people: 'a', 'b' and 'c'."""
    marked = [f"'{name}'" for name in names]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} and {marked[-1]}"
