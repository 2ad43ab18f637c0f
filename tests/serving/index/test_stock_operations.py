"""An exact export uses nothing but operations that the stock model server of TensorFlow Serving links.

`tensorflow_serving/model_servers/BUILD` (library `server_lib`) links `@org_tensorflow//tensorflow/core:tensorflow` and
`SUPPORTED_TENSORFLOW_OPS`, which is `@org_tensorflow_text//tensorflow_text:ops_lib` and the operations of TensorFlow
Decision Forests. What the first is made of says `tensorflow/core/BUILD` (`tensorflow_opensource`: `ops`,
`all_kernels`), and the second `tensorflow_text/BUILD`. The names below are from there; which operation belongs to which
of these libraries, and whether it has a kernel for CPUs, say the installed packages, built from the same libraries.
"""

import dataclasses
import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_text
from tensorflow.python.framework import kernels

from serving.export.config import ExportConfig
from serving.export.exporter import export_model
from serving.server.saved_model import op_types, read_graph
from tfrs_mmse import presets, schema
from tfrs_mmse.corpus import Corpus
from tfrs_mmse.model import TwoTowerModel
from tfrs_mmse.restore import Trained, build

# Of `tensorflow/core:ops`, those with a Python module of their own. What newer releases have in addition is left out.
_CORE = """
    array_ops audio_ops batch_ops bitwise_ops boosted_trees_ops candidate_sampling_ops checkpoint_ops clustering_ops
    collective_ops control_flow_ops ctc_ops data_flow_ops dataset_ops decode_proto_ops encode_proto_ops
    experimental_dataset_ops functional_ops image_ops io_ops linalg_ops list_ops logging_ops lookup_ops manip_ops
    math_ops nn_ops parsing_ops ragged_array_ops ragged_conversion_ops ragged_math_ops random_ops
    resource_variable_ops script_ops sdca_ops sendrecv_ops set_ops sparse_ops spectral_ops state_ops
    stateful_random_ops stateless_random_ops string_ops summary_ops training_ops
"""
# Of `tensorflow_text:ops_lib`, without the `_cc` of their names there.
_TEXT = """
    boise_offset_converter byte_splitter constrained_sequence_op fast_bert_normalizer fast_sentencepiece_tokenizer
    fast_wordpiece_tokenizer mst_ops ngrams_op normalize_ops phrase_tokenizer regex_split_ops sentence_breaking_ops
    sentencepiece_tokenizer split_merge_from_logits_tokenizer split_merge_tokenizer state_based_sentence_breaker_op
    trimmer_ops unicode_script_tokenizer utf8_binarize_op whitespace_tokenizer whitespace_tokenizer_v2
    wordpiece_tokenizer
"""


@functools.cache
def libraries() -> list[Any]:
    """Modules whose attributes are the operations of each library, by their names in graphs."""
    core = [
        importlib.import_module(f"tensorflow.python.ops.gen_{name}")
        for name in _CORE.split()
    ]
    folder = Path(tensorflow_text.__file__).parent / "python/ops"
    text = [tf.load_op_library(str(folder / f"_{name}.so")) for name in _TEXT.split()]
    return core + text


def not_linked(operations: Iterable[str]) -> list[str]:
    """Those of the operations that the stock model server does not know, or has no kernel for on a CPU."""
    return sorted(
        name
        for name in operations
        if not any(hasattr(library, name) for library in libraries())
        or not {"CPU", "DEFAULT"}
        & {k.device_type for k in kernels.get_registered_kernels_for_op(name).kernel}
    )


def operations_of(version: Path) -> set[str]:
    """Every operation in the graph of a SavedModel, and in all of its functions."""
    return set(op_types(read_graph(version).graph_def))


@pytest.fixture(scope="module")
def export_of(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports an untrained model of a preset, on the shop's catalogue."""

    def export(preset: str) -> Path:
        featurizer, manifest = shop.trained.featurizer, shop.trained.manifest
        config = dataclasses.replace(presets.PRESETS[preset](), embedding_dim=8)
        model = TwoTowerModel(featurizer.spec, config, num_items=manifest.num_items)
        build(model, featurizer)
        titles = shop.corpus.title
        fields = {
            "title": tf.constant(titles),
            "Brand (EU)": tf.constant(["acme"] * len(titles)),
            "price": tf.fill([len(titles)], 3.0),
        }
        embedding = model.item_embedding(featurizer.items(fields)).numpy()
        return Path(
            export_model(
                Trained(config, manifest, featurizer, model),
                Corpus(shop.corpus.item_id, embedding, titles, {}),
                shop.queries,
                tmp_path_factory.mktemp(preset),
                ExportConfig(index="exact", k=5),
                source={},
            )["path"]
        )

    return export


def test_the_catalogue_of_this_test_has_features_of_every_kind(shop: Any) -> None:
    kinds = {grain.kind for grain in shop.trained.featurizer.spec.grains}
    assert kinds == set(schema.GrainKind)
    names = [grain.name for grain in shop.trained.featurizer.spec.text_grains]
    assert names == list(schema.TEXT_GRAINS)


def test_an_exact_export_runs_on_the_stock_server(exact_version: Path) -> None:
    operations = operations_of(exact_version)
    # Text is folded by TensorFlow Text, and the best items are found by core operations.
    assert {"CaseFoldUTF8", "NormalizeUTF8", "MatMul", "TopKV2"} <= operations
    assert not_linked(operations) == []


@pytest.mark.parametrize(
    "preset", ["mmse", pytest.param("two_tower", marks=pytest.mark.slow)]
)
def test_real_towers_run_on_the_stock_server(preset: str, export_of: Any) -> None:
    assert not_linked(operations_of(export_of(preset))) == []


def test_other_operations_are_noticed() -> None:
    # ScaNN's, one that only XLA has, one that only a GPU has, one of TensorFlow's wheel alone.
    others = ["CudnnRNNV3", "NcclAllReduce", "Scann>ScannTensorsToScann", "XlaSort"]
    assert not_linked(["MatMul", *others, "CaseFoldUTF8"]) == others
