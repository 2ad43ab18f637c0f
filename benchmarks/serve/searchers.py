"""Indexes over the same vectors: ours inside a SavedModel, ScaNN's own Python API, FAISS and hnswlib.

Each is built once and then searched with settings from little work to much.
"""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from serving.index.scann_build import ScannSettings

Search = Callable[[np.ndarray], np.ndarray]
"""[B, D] float32 query vectors -> [B, k] rows."""


class Searcher(NamedTuple):
    """An index with settings.

    Attributes:
        name: `ours`, `pybind`, `faiss` or `hnswlib`.
        settings: For people.
        search: See `Search`; all of them on the thread that asks.
    """

    name: str
    settings: str
    search: Search


def ours(item: np.ndarray, settings: ScannSettings, k: int) -> Iterator[Searcher]:
    """The index of `serving.export`, saved, and loaded and run as the server does; with these settings alone."""
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl

    from serving.index.scann import ScannIndex
    from serving.server.servable import session_config

    module = tf.Module()
    module.index = ScannIndex(item, settings, k=k)
    vectors = tf.TensorSpec([None, item.shape[1]], tf.float32, name="query")
    module.search = tf.function(
        lambda query: {"row": module.index.search(query, k).row},
        input_signature=[vectors],
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.search)
        session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config())
        graph = loader_impl.SavedModelLoader(folder).load(session, ["serve"])
    signature = graph.signature_def["serving_default"]
    tensor = session.graph.get_tensor_by_name
    call = session.make_callable(
        tensor(signature.outputs["row"].name), [tensor(signature.inputs["query"].name)]
    )
    yield Searcher("ours", _describe(settings), call)


def pybind(item: np.ndarray, settings: ScannSettings, k: int) -> Iterator[Searcher]:
    """ScaNN's own API with the same tree, codes and number of candidates."""
    from scann.scann_ops.py import scann_ops_pybind

    builder = scann_ops_pybind.builder(item, k, "dot_product")
    if settings.num_leaves:
        builder = builder.tree(settings.num_leaves, settings.leaves_to_search)
    searcher = (
        builder.score_ah(
            settings.dimensions_per_block,
            anisotropic_quantization_threshold=settings.anisotropic_threshold,
        )
        .reorder(settings.num_reorder)
        .build()
    )
    # The same candidates need not give quite the same recall: as few of them as do.
    for factor in (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4):
        num = min(len(item), max(k, int(settings.num_reorder * factor)))

        def search(query: np.ndarray, num: int = num) -> np.ndarray:
            return searcher.search_batched(query, pre_reorder_num_neighbors=num)[0]

        yield Searcher("pybind", f"reorder {num}", search)


def faiss(item: np.ndarray, k: int) -> Iterator[Searcher]:
    """An inverted file over 4-bit product quantisation with exact reordering, its fastest kind on a CPU."""
    import faiss as library

    library.omp_set_num_threads(1)
    num, dimensions = item.shape
    leaves = int(np.sqrt(num))
    kind = f"IVF{leaves},PQ{dimensions // 2}x4fs,RFlat"
    index = library.index_factory(dimensions, kind, library.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(num, min(num, 50 * leaves), replace=False)
    index.train(item[np.sort(sample)])
    index.add(item)
    for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0):
        for factor in (1, 2, 4, 8):
            probes = max(1, int(leaves * share))
            parameters = library.IndexRefineSearchParameters(
                k_factor=factor,
                base_index_params=library.SearchParametersIVF(nprobe=probes),
            )

            def search(query: np.ndarray, parameters: Any = parameters) -> np.ndarray:
                return index.search(query, k, params=parameters)[1]

            settings = f"{kind}, nprobe {probes}, k_factor {factor}"
            yield Searcher("faiss", settings, search)


def hnswlib(item: np.ndarray, k: int) -> Iterator[Searcher]:
    """A graph of 16 neighbours an item."""
    import hnswlib as library

    index = library.Index(space="ip", dim=item.shape[1])
    index.init_index(max_elements=len(item), ef_construction=200, M=16)
    index.add_items(item)
    index.set_num_threads(1)
    for ef in (100, 150, 200, 300, 500, 800, 1200, 2000, 4000):

        def search(query: np.ndarray, ef: int = ef) -> np.ndarray:
            index.set_ef(ef)
            return index.knn_query(query, k=k)[0]

        yield Searcher("hnswlib", f"M 16, ef {ef}", search)


def _describe(settings: ScannSettings) -> str:
    values: dict[str, Any] = vars(settings)
    return ", ".join(f"{name} {value}" for name, value in values.items())
