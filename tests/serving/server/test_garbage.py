"""What the garbage collector is spared, and what it still frees."""

import gc
import weakref
from pathlib import Path

from serving.server.servable import Servable


def test_a_loaded_version_is_not_looked_through_again(exact_version: Path) -> None:
    servable = Servable(exact_version)
    assert len(gc.get_objects()) < 0.1 * gc.get_freeze_count()
    servable.close()


def test_an_unloaded_version_is_freed(exact_version: Path) -> None:
    servable = Servable(exact_version)
    graph = weakref.ref(servable._session.graph)
    assert graph() is not None
    servable.close()
    assert graph() is None
