"""The bundle of an ONNX file that stimcore did not train fills every page that one network can fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.sources import connection
from stimcore.bundle import Bundle, open_bundle
from stimcore.data.folder import image_folder
from stimcore.subnets.families import family
from stimcore.surgery.bundle import import_network, write_bundle
from stimcore.surgery.reading import read_onnx
from stimcore.sweep.sweep import measured_sweep, store_sweep
from tests.app.test_views import VIEWS, visitor
from tests.surgery.graphs import export, write_pictures


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    folder = tmp_path_factory.mktemp("imported")
    file = read_onnx(export("mobilenet_v2", folder / "net.onnx", dynamo=False, keep_norms=True, opset=13))
    network, dataset = import_network(file, file.image_shape()), image_folder(write_pictures(folder / "pictures"))
    bundle = write_bundle(network, dataset, dataset.normalisation, folder / "exported" / "theirs")
    specs = list(family(bundle.topology, "permute"))
    store_sweep(bundle, *measured_sweep(bundle, specs, "permute"))
    yield open_bundle(bundle.path)
    connection._embedded.clear()


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_page_draws(imported: Bundle, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = imported.path.parents[1]
    at = visitor(folder, monkeypatch)
    at.run()
    if view != "break_it":
        at.switch_page(f"views/{view}.py").run()
    assert not at.exception, at.exception
    assert at.title[0].value
