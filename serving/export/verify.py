"""Loads a model version in a process of its own, as the server does, and writes down its answers. Used by the export.

    python -m serving.export.verify --version-dir DIR --requests FILE --answers FILE

Knows nothing of the training code. `--requests` is JSON: `queries`, and `fields` of items by input name; `--answers` is
an .npz file, see `answer`. Prints the operations that the version needs beyond TensorFlow and TensorFlow Text.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_mmse import cli, schema

if TYPE_CHECKING:
    from serving.server.servable import Servable

_BATCH = 64
_FILTERED = 32  # queries that are asked inside filters


@cli.command
def main(argv: Sequence[str] | None = None) -> None:
    """Parses, loads, answers."""
    parser = cli.argument_parser("serving.export.verify", __doc__)
    parser.add_argument(
        "--version-dir", type=Path, required=True, help="a model version"
    )
    parser.add_argument(
        "--requests", type=Path, required=True, help="JSON file with what to ask"
    )
    parser.add_argument(
        "--answers", type=Path, required=True, help=".npz file to write"
    )
    args = parser.parse_args(argv)
    requests = json.loads(args.requests.read_text(encoding="utf-8"))

    from serving.server.errors import RequestError
    from serving.server.servable import Servable

    try:
        servable = Servable(args.version_dir)
        answers = answer(servable, **requests)
        np.savez(args.answers, allow_pickle=False, **answers)  # type: ignore[arg-type]
    except RequestError as e:
        raise cli.CommandError(f"a request is refused: {e.message}") from None
    cli.print_result({"required_custom_ops": servable.required_custom_ops})


def answer(
    servable: "Servable",
    queries: list[str],
    fields: dict[str, list[Any]],
    filters: list[list[str]],
    k: int,
) -> dict[str, np.ndarray]:
    """Asks every signature.

    Args:
        servable: A loaded `Servable`.
        queries: Q query strings.
        fields: For each input of `embed_item` M values.
        filters: F filters as lists of clauses.
        k: Results inside of each.

    Returns:
        `item_id` and `score` [Q, k]; `rest_item_id` and `rest_score` [Q, k], the same with each query's first item
        excluded; `query_embedding` [Q, D]; `item_embedding` [M, D]; and inside the filters, for the first queries,
        `filtered_item_id` and `filtered_score` [F, q, k] and `num_matching` [F, q].
    """
    import tensorflow as tf

    batches = []
    for start in range(0, len(queries), _BATCH):
        query = tf.make_tensor_proto(queries[start : start + _BATCH], tf.string)
        found = servable.predict(schema.SERVING_DEFAULT, {schema.QUERY: query})
        exclude = tf.make_tensor_proto(found[schema.ITEM_ID][:, :1])
        rest = servable.predict(
            schema.SEARCH_EXCLUDING, {schema.QUERY: query, schema.EXCLUDE: exclude}
        )
        batches.append(
            {
                "item_id": found[schema.ITEM_ID].astype(bytes),
                "score": found[schema.SCORE],
                "rest_item_id": rest[schema.ITEM_ID].astype(bytes),
                "rest_score": rest[schema.SCORE],
                "query_embedding": servable.predict(
                    schema.EMBED_QUERY, {schema.QUERY: query}
                )[schema.EMBEDDING],
            }
        )
    specs = servable.signature(schema.EMBED_ITEM).inputs
    items = {
        name: tf.make_tensor_proto(values, specs[name].dtype)
        for name, values in fields.items()
    }
    embedding = servable.predict(schema.EMBED_ITEM, items)[schema.EMBEDDING]
    return (
        {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
        | {"item_embedding": embedding}
        | _filtered(servable, queries[:_FILTERED], filters, k)
    )


def _filtered(
    servable: "Servable", queries: list[str], filters: list[list[str]], k: int
) -> dict[str, np.ndarray]:
    import tensorflow as tf

    num = len(queries)
    found = [
        servable.predict(
            schema.SEARCH_FILTERED,
            {
                schema.QUERY: tf.make_tensor_proto(queries, tf.string),
                schema.K: tf.make_tensor_proto([k] * num, tf.int32),
                schema.EXCLUDE: tf.make_tensor_proto([[""]] * num, tf.string),
                schema.FILTER: tf.make_tensor_proto([clauses or [""]] * num, tf.string),
            },
        )
        for clauses in filters
    ]
    return {
        "filtered_item_id": np.stack([f[schema.ITEM_ID].astype(bytes) for f in found]),
        "filtered_score": np.stack([f[schema.SCORE] for f in found]),
        "num_matching": np.stack([f[schema.NUM_MATCHING] for f in found]),
    }


if __name__ == "__main__":
    sys.exit(main())
