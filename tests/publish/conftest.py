"""Sites of the committed experiment: one that every machine can build, and one whose networks run in the browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore.publish.__main__ import main
from stimcore.publish.site import Settings, Site, build_site
from tests.publish.hosting import hosted, runtime_or_skip

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "exported" / "resnet20-fashion"


@pytest.fixture(scope="session")
def site() -> Site:
    """The site of one experiment without a runtime: what every machine can build."""
    return build_site(
        [EXPERIMENT], Settings(images=16, walls="stored", title="Klasse 9 <b> {{root}}", runtime_problem="npm is missing.")
    )


@pytest.fixture(scope="session")
def url(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("host")
    site.write(folder / "some" / "path")
    with hosted(folder) as address:
        yield f"{address}/some/path/"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site of all committed experiments with the runtime, as the command builds it; it prints the sizes."""
    runtime_or_skip()
    folder = tmp_path_factory.mktemp("whole") / "site"
    assert main([str(ROOT / "exported"), "--out", str(folder), "--images", "500"]) == 0
    with hosted(folder) as address:
        yield f"{address}/"
