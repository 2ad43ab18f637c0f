"""Which items pass which filters: the attributes of a catalogue, sorted, and ranges of their places."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.index.clauses import OPERATORS, parse_clauses
from serving.index.lookup import NOT_FOUND, StringLookup, string_variable
from tfrs_mmse import text

_FOLDED_AT_ONCE = 1 << 16


class Filters(NamedTuple):
    """The filters of B queries as ranges of places in the orders of the attributes.

    An item passes if its place lies in one range of every attribute that the filter names. Ranges of one attribute do
    not overlap, so that is so if as many ranges hold it as attributes are named.

    Attributes:
        num_attributes: [B] int32 attributes named.
        attribute: [B, P] int32 attribute of each range.
        first: [B, P] int32 where the range begins.
        end: [B, P] int32 where it ends; ranges beyond a filter's own are empty.
        narrowest: [B] int32: of the attributes named, the one whose ranges hold the fewest items.
        at_most: [B] int32: as many items as these ranges hold; all, where no attribute is named.
    """

    num_attributes: tf.Tensor
    attribute: tf.Tensor
    first: tf.Tensor
    end: tf.Tensor
    narrowest: tf.Tensor
    at_most: tf.Tensor

    def of(self, query: tf.Tensor) -> "Filters":
        """The filters of some of the queries, by their rows."""
        return Filters(*(tf.gather(part, query) for part in self))


class FilterTable(tf.Module):
    """The attributes of N items, for filters.

    Every attribute sorts the items by its values, a missing number last: what has one value, or lies between two
    numbers, is a range of that order. Kept are the order and each item's place in it, 8 bytes an item and attribute.

    Attributes:
        names: The attributes, sorted.
    """

    def __init__(self, attributes: Mapping[str, np.ndarray], num_items: int) -> None:
        """Sorts the items.

        Args:
            attributes: [N] values by name: bytes of UTF-8 ("" is missing) or float32 (NaN is missing). Names that hold
                an operator must not be among them, see `filterable`.
            num_items: N > 0.
        """
        super().__init__()
        self.names = sorted(attributes)
        self._num_items = num_items
        self._is_number = [attributes[n].dtype == np.float32 for n in self.names]
        order, values, first, end = [], [b""], [0], [0]
        self._distinct: list[tf.Variable] = []  # of the number attributes, ascending
        self._starts: list[tf.Variable] = []  # where each of these values begins
        self._num_values: list[int] = []
        for number, name in enumerate(self.names):
            column = attributes[name]
            if not self._is_number[number]:
                column = folded(column)
            order.append(_order(column))
            distinct, counts = np.unique(_present(column), return_counts=True)
            starts = np.append(0, np.cumsum(counts)).astype(np.int32)
            self._num_values.append(int((distinct != b"").sum()))
            if self._is_number[number]:
                self._distinct.append(tf.Variable(distinct, trainable=False))
                self._starts.append(tf.Variable(starts, trainable=False))
            else:
                values += [b"%d=%s" % (number, value) for value in distinct.tolist()]
                first += starts[:-1].tolist()
                end += starts[1:].tolist()
        self._value = StringLookup(string_variable(values, "attribute_value"))
        self._first = tf.Variable(first, trainable=False, dtype=tf.int32)
        self._end = tf.Variable(end, trainable=False, dtype=tf.int32)
        orders = np.stack(order) if order else np.zeros([0, num_items], np.int32)
        self._order = tf.Variable(orders.reshape(-1), trainable=False)
        places = np.argsort(orders, axis=1).astype(np.int32)
        self._place = tf.Variable(places.reshape(-1), trainable=False)

    def read(self, clause: tf.Tensor) -> Filters:
        """The filters that clauses [B, F] make together; for what is refused see `parse_clauses`."""
        return tf.cond(
            tf.reduce_all(tf.equal(clause, "")),
            lambda: self._none(tf.shape(clause)[0]),
            lambda: self._read(clause),
        )

    def _none(self, num_queries: tf.Tensor) -> Filters:
        each, ranges = (
            tf.zeros([num_queries], tf.int32),
            tf.zeros([num_queries, 0], tf.int32),
        )
        return Filters(each, ranges, ranges, ranges, each, each + self._num_items)

    def _read(self, clause: tf.Tensor) -> Filters:
        clauses = parse_clauses(clause, names=self.names, is_number=self._is_number)
        first, end = self._ranges(*clauses[1:])
        num_queries, num_attributes = tf.shape(clause)[0], len(self.names)
        num_groups = num_queries * num_attributes
        group = clauses.query * num_attributes + clauses.attribute
        # Of one attribute: ranges hold together, values are alternatives inside of them.
        is_value = tf.equal(clauses.operator, "=")
        begin = tf.where(is_value, 0, first)
        begin = tf.maximum(0, tf.math.unsorted_segment_max(begin, group, num_groups))
        stop = tf.where(is_value, self._num_items, end)
        stop = tf.math.unsorted_segment_min(stop, group, num_groups)
        has_value = tf.math.unsorted_segment_max(
            tf.cast(is_value, tf.int32), group, num_groups
        )
        limits = tf.gather(begin, group), tf.gather(stop, group)
        first = tf.where(is_value, tf.maximum(first, limits[0]), limits[0])
        end = tf.where(is_value, tf.minimum(end, limits[1]), limits[1])
        counts = (is_value | (tf.gather(has_value, group) < 1)) & (end > first)
        group, first, end = _distinct(
            *(tf.boolean_mask(part, counts) for part in (group, first, end))
        )
        is_named = tf.reshape(has_value, [num_queries, num_attributes]) >= 0
        held = tf.math.unsorted_segment_sum(end - first, group, num_groups)
        held = tf.reshape(held, [num_queries, num_attributes])
        # One more, which is what a filter without clauses has.
        held = tf.pad(
            tf.where(is_named, held, self._num_items),
            [[0, 0], [0, 1]],
            constant_values=self._num_items,
        )
        query = group // max(num_attributes, 1)
        return Filters(
            num_attributes=tf.reduce_sum(tf.cast(is_named, tf.int32), axis=1),
            attribute=_padded(group % max(num_attributes, 1), query, num_queries),
            first=_padded(first, query, num_queries),
            end=_padded(end, query, num_queries),
            narrowest=tf.argmin(held, axis=1, output_type=tf.int32),
            at_most=tf.reduce_min(held, axis=1),
        )

    def passes(self, filters: Filters, row: tf.Tensor) -> tf.Tensor:
        """[B, n] bool: whether items `row` [B, n] or [n] pass each query's filter; rows that are none count as 0."""
        row = tf.cast(tf.maximum(row, 0), tf.int64)
        row = tf.broadcast_to(row, [tf.shape(filters.first)[0], tf.shape(row)[-1]])
        start = tf.cast(filters.attribute, tf.int64) * self._num_items

        def add(number: tf.Tensor, held: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            place = tf.gather(self._place, row + start[:, number, None])
            is_in = (place >= filters.first[:, number, None]) & (
                place < filters.end[:, number, None]
            )
            return number + 1, held + tf.cast(is_in, tf.int32)

        num_ranges = tf.shape(filters.first)[1]
        _, held = tf.while_loop(
            lambda number, held: number < num_ranges,
            add,
            (tf.constant(0), tf.zeros_like(row, tf.int32)),
            parallel_iterations=1,
        )
        return tf.equal(held, filters.num_attributes[:, None])

    def candidates(self, filters: Filters) -> tf.Tensor:
        """[M] int32, ascending: all items that pass the filter of one query, which must name an attribute."""
        is_narrowest = tf.equal(filters.attribute[0], filters.narrowest[0])
        first, end = (
            tf.boolean_mask(part[0], is_narrowest)
            for part in (filters.first, filters.end)
        )
        place = tf.ragged.range(first, end).flat_values
        start = tf.cast(filters.narrowest[0], tf.int64) * self._num_items
        row = tf.gather(self._order, start + tf.cast(place, tf.int64))
        row = tf.cond(
            filters.num_attributes[0] > 1,
            lambda: tf.boolean_mask(row, self.passes(filters, row)[0]),
            lambda: row,
        )
        return tf.sort(row)

    def describe(self) -> dict[str, dict[str, Any]]:
        """For a manifest: of each attribute its `kind`, and `num_values` (text) or `min` and `max` (number)."""
        numbers = iter(self._distinct)
        described: dict[str, dict[str, Any]] = {}
        for name, num_values, is_number in zip(
            self.names, self._num_values, self._is_number, strict=True
        ):
            if is_number:
                values = next(numbers).numpy().tolist() or [None]
                described[name] = {
                    "kind": "number",
                    "min": values[0],
                    "max": values[-1],
                }
            else:
                described[name] = {"kind": "categorical", "num_values": num_values}
        return described

    def _ranges(
        self,
        attribute: tf.Tensor,
        operator: tf.Tensor,
        value: tf.Tensor,
        number: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The range of places [C] that each clause [C] admits by itself: first and end."""
        key = tf.strings.join(
            [tf.strings.as_string(attribute), text.folded_key(value)], "="
        )
        found = self._value(key)
        is_found = tf.not_equal(found, NOT_FOUND)
        first, end = (
            tf.where(is_found, tf.gather(part, tf.maximum(found, 0)), 0)
            for part in (self._first, self._end)
        )
        columns = [n for n, is_number in enumerate(self._is_number) if is_number]
        for column, distinct, starts in zip(
            columns, self._distinct, self._starts, strict=True
        ):
            below = tf.gather(starts, tf.searchsorted(distinct, number, side="left"))
            upto = tf.gather(starts, tf.searchsorted(distinct, number, side="right"))
            is_its = tf.equal(attribute, column)
            begin = tf.where(tf.equal(operator, "<="), 0, below)
            stop = tf.where(tf.equal(operator, ">="), starts[-1], upto)
            first, end = tf.where(is_its, begin, first), tf.where(is_its, stop, end)
        return first, end


def filterable(name: str) -> bool:
    """Whether an attribute of that name can be filtered on: it holds no operator and no white space around it."""
    return not set(name) & set(OPERATORS) and name == name.strip() != ""


def folded(values: np.ndarray) -> np.ndarray:
    """Values of text as they are compared: [N] bytes, folded as the vocabularies of attributes are."""
    distinct, place = np.unique(values.astype(object), return_inverse=True)
    keys = [
        text.folded_key(
            tf.constant(distinct[at : at + _FOLDED_AT_ONCE].tolist(), tf.string)
        ).numpy()
        for at in range(0, len(distinct), _FOLDED_AT_ONCE)
    ]
    return np.concatenate(keys).astype(object)[place]


def _order(values: np.ndarray) -> np.ndarray:
    """Rows by their values, equal ones by their number, NaN last: [N] int32."""
    _, place = np.unique(values, return_inverse=True)
    return np.argsort(place, kind="stable").astype(np.int32)


def _present(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)] if values.dtype == np.float32 else values


def _distinct(
    group: tf.Tensor, first: tf.Tensor, end: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The ranges sorted by group and begin, without copies; those of one group either are copies or do not overlap."""
    order = tf.argsort(first, stable=True)
    order = tf.gather(order, tf.argsort(tf.gather(group, order), stable=True))
    group, first, end = (tf.gather(part, order) for part in (group, first, end))
    is_copy = tf.equal(group[1:], group[:-1]) & tf.equal(first[1:], first[:-1])
    is_new = tf.concat([tf.fill(tf.shape(group[:1]), True), ~is_copy], axis=0)
    group, first, end = (tf.boolean_mask(part, is_new) for part in (group, first, end))
    return group, first, end


def _padded(values: tf.Tensor, query: tf.Tensor, num_queries: tf.Tensor) -> tf.Tensor:
    """[B, P] from values [C] of queries, ascending; padded with 0."""
    return tf.RaggedTensor.from_value_rowids(
        values, query, num_queries, validate=False
    ).to_tensor()
