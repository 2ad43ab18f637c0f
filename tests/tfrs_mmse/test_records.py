import math
from pathlib import Path

import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrs_mmse import records, schema

SPEC = schema.FeatureSpec(
    text_fields=("title", "tags"),
    grains=(
        schema.Grain(name="word", kind=schema.GrainKind.TEXT, size=99),
        schema.Grain(name="brand", kind=schema.GrainKind.CATEGORICAL, size=99),
    ),
    max_query_words=8,
    max_field_words=8,
)


def example(**features: list) -> bytes:
    """A serialized example; features by their names with `__` for `/`."""
    proto = tf.train.Example()
    for name, values in features.items():
        feature = proto.features.feature[name.replace("__", "/")]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif values and isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return proto.SerializeToString()


def request(number: int, num_items: int) -> bytes:
    ids = [f"i{number}-{i}".encode() for i in range(num_items)]
    return example(
        query=[f"q{number}".encode()],
        query__word=[number, number],
        query__positive_item_id=ids[:1],
        item_id=ids,
        item__level=[2] + [1] * (num_items - 1),
        item__position=list(range(num_items)),
        item__log_probability=[-1.5] * num_items,
        item__word=[number] * (2 * num_items),
        item__word__length=[2, 0] * num_items,
        item__brand=[number] * num_items,
    )


def item(number: int) -> bytes:
    return example(
        item_id=[f"i{number}".encode()],
        item__log_probability=[-math.inf],
        item__word=[number],
        item__word__length=[1, 0],
        item__brand=[number],
        item__title=[f"title {number}".encode()],
        item__text=[f"title {number}\ntags".encode()],
    )


def write(directory: Path, stream: str, rows: list[bytes], num_shards: int = 2) -> None:
    for shard in range(num_shards):
        path = directory / f"{stream}-{shard:05d}-of-{num_shards:05d}.tfrecord.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in rows[shard::num_shards]:
                writer.write(row)


def test_requests_are_parsed_flat():
    first = example(
        query=[b"mug"],
        query__word=[4, 5],
        query__positive_item_id=[b"a", b"z"],
        item_id=[b"a", b"b"],
        item__level=[3, 1],
        item__position=[0, -1],
        item__log_probability=[-2.0, -3.0],
        item__word=[1, 2, 3],
        item__word__length=[1, 0, 1, 1],
        item__brand=[7, 0],
    )
    second = example(
        query=[b"?"],
        item_id=[b"a"],
        item__level=[2],
        item__position=[5],
        item__log_probability=[-2.0],
        item__word__length=[0, 0],
        item__brand=[7],
    )
    parsed = records.parse_requests(tf.constant([first, second]), SPEC)
    assert parsed.query_ids["word"].to_list() == [[4, 5], []]
    assert parsed.items.ids["word"].to_list() == [[[1], []], [[2], [3]], [[], []]]
    assert_array_equal(parsed.items.ids["brand"], [7, 0, 7])
    assert_array_equal(parsed.request, [0, 0, 1])
    assert_array_equal(parsed.level, [3, 1, 2])
    assert_array_equal(parsed.position, [0, -1, 5])
    assert_allclose(parsed.items.log_probability, [-2, -3, -2])
    a, b, again = parsed.items.key.numpy()
    assert a == again != b
    assert parsed.positive_key.to_list() == [
        [a, records.item_key(tf.constant("z")).numpy()],
        [],
    ]


def test_an_epoch_holds_every_request_once_and_epochs_differ(tmp_path: Path):
    write(tmp_path, "train", [request(n, 1 + n % 3) for n in range(20)])

    def orders(seed: int, epochs: range, skip: int = 0) -> list[int]:
        batches = records.request_batches(
            tmp_path, SPEC, "train", batch_size=8, seed=seed, epochs=epochs, skip=skip
        )
        return [
            int(row[0])
            for batch in batches
            for row in batch.query_ids["word"].to_list()
        ]

    two = orders(seed=0, epochs=range(2))
    assert sorted(two[:20]) == sorted(two[20:]) == list(range(20))
    assert two[:20] != two[20:]
    assert two == orders(seed=0, epochs=range(2)) != orders(seed=1, epochs=range(2))
    # A run that goes on sees what it would have seen, whatever else was drawn meanwhile.
    tf.random.set_seed(7)
    assert two[20:] == orders(seed=0, epochs=range(1, 2))
    assert two[28:] == orders(seed=0, epochs=range(1, 2), skip=1)


def test_random_items_cover_the_catalogue_evenly(tmp_path: Path):
    write(tmp_path, "items", [item(n) for n in range(10)])

    def drawn(skip: int) -> list[int]:
        batches = records.random_item_batches(
            tmp_path, SPEC, batch_size=4, seed=0, num_items=10, skip=skip
        ).take(5 - skip)
        return [int(brand) for b in batches for brand in b.items.ids["brand"].numpy()]

    whole = drawn(0)
    assert sorted(whole[:10]) == sorted(whole[10:]) == list(range(10))
    assert whole[:10] != whole[10:]
    assert [drawn(skip) for skip in (1, 2, 3)] == [whole[4:], whole[8:], whole[12:]]


def test_the_catalogue_is_read_in_the_order_of_its_files(tmp_path: Path):
    write(tmp_path, "items", [item(n) for n in range(5)])
    batches = list(records.catalogue_batches(tmp_path, SPEC, batch_size=3))
    assert [t.decode() for b in batches for t in b.title.numpy()] == [
        f"title {n}" for n in (0, 2, 4, 1, 3)
    ]
    assert batches[1].text.numpy().tolist() == [b"title 1\ntags", b"title 3\ntags"]
    assert all(math.isinf(p) for b in batches for p in b.items.log_probability.numpy())
