"""What is asked: queries, exclusions and filters, as a `PredictRequest` of the signature that can answer them."""

import dataclasses
from collections.abc import Sequence

from serving.client.search_error import SearchError
from serving.client.stubs import DT_INT32, DT_STRING, PredictRequest, TensorProto
from tfrs_mmse import schema

_MAX_K = (1 << 31) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """One search, checked.

    Attributes:
        model: The model's name on the server.
        queries: Query strings.
        k: Results per query.
        exclude: Item ids that no query wants.
        filters: Clauses that every result must satisfy, such as `brand=acme`, `price>=10`.
        version: Of the model: its number, or a label that the server's configuration gives it; None: the newest.
    """

    model: str
    queries: Sequence[str]
    k: int
    exclude: Sequence[str] = ()
    filters: Sequence[str] = ()
    version: int | str | None = None

    def __post_init__(self) -> None:
        """Raises: SearchError: one string where a list is wanted, an empty filter, or no such number of results."""
        for name in ("queries", "exclude", "filters"):
            if isinstance(value := getattr(self, name), str | bytes):
                raise SearchError(
                    f"{name} must be a list of strings, got one string: pass [{value!r}]"
                )
        if not 1 <= self.k <= _MAX_K:
            raise SearchError(f"k must be at least 1, got {self.k}")
        if not all(self.filters):
            # It would be read as padding, and so find everything.
            raise SearchError(
                "a filter must be a clause such as brand=acme or price<=20, got an empty one"
            )

    def signature(self, width: int | None) -> str:
        """The plainest signature that can answer.

        Args:
            width: Results per query for which the model was exported, or None where that is not known yet.
        """
        if self.filters or (width is not None and self.k > width):
            return schema.SEARCH_FILTERED
        return schema.SEARCH_EXCLUDING if self.exclude else schema.SERVING_DEFAULT

    def message(self, signature: str) -> PredictRequest:
        """The request for one of the three search signatures.

        Raises:
            SearchError: a text is half of a surrogate pair.
        """
        message, rows = PredictRequest(), len(self.queries)
        message.model_spec.name = self.model
        message.model_spec.signature_name = signature
        if isinstance(self.version, str):
            message.model_spec.version_label = self.version
        elif self.version is not None:
            message.model_spec.version.value = self.version
        inputs = message.inputs
        _put_strings(inputs[schema.QUERY], self.queries, [rows])
        if signature != schema.SERVING_DEFAULT:
            _put_rows(inputs[schema.EXCLUDE], self.exclude, rows)
        if signature == schema.SEARCH_FILTERED:
            _put_rows(inputs[schema.FILTER], self.filters, rows)
            inputs[schema.K].dtype = DT_INT32
            inputs[schema.K].tensor_shape.dim.add(size=rows)
            inputs[schema.K].int_val.extend([self.k] * rows)
        return message


def _put_rows(tensor: TensorProto, texts: Sequence[str], rows: int) -> None:
    """The same `texts` for each query: [rows, len(texts)]."""
    _put_strings(tensor, texts, [rows, len(texts)], copies=rows)


def _put_strings(
    tensor: TensorProto, texts: Sequence[str], shape: Sequence[int], copies: int = 1
) -> None:
    tensor.dtype = DT_STRING
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    try:
        # A command line may hold bytes that are no text: the server has the say about them.
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    except UnicodeEncodeError as e:
        raise SearchError(
            f"expected text, got half of a surrogate pair in {e.object!r}"
        ) from None
    tensor.string_val.extend(encoded * copies)
