"""Keeps the interpreter's garbage collector from stopping requests."""

import gc


def settle() -> None:
    """Collects garbage once, and leaves what is alive now out of later collections.

    TensorFlow's modules and a model's graph are hundreds of thousands of objects that refer to each other. Looking
    through them takes a tenth of a second, in which no request is answered, and the requests' own objects make the
    collector do so every few seconds. To be called when a version has been loaded or unloaded: only then are there
    objects of this kind to be freed.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
