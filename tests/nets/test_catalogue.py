"""The catalogue's facts, its command line, and docs/networks.md."""

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from stimcore.errors import UsageError
from stimcore.nets import __main__ as command
from stimcore.nets.catalogue import NETWORKS, build, native_shape
from stimcore.nets.cost import Costs
from stimcore.nets.description import describe
from stimcore.nets.mobilenetv3 import mobilenetv3
from stimcore.nets.staged import StagedNet
from stimcore.subnets.families import count_ordered
from tests.golden import REWRITE
from tests.nets.conftest import SIDE, lively

DOCS = Path(__file__).parents[2] / "docs" / "networks.md"
QUICK = ["mobilenetv3", "resnet20", "resnet32", "resnet110", "resnet18", "densenet121"]
RESOLUTION = "it changes the resolution, so there is no skip path around it"
CHANNELS = "it changes the number of channels, so there is no skip path around it"


def catalogue_table() -> str:
    match = re.search(
        r"<!-- catalogue.*?-->\n\n(.*?)\n\n<!-- end of catalogue -->", DOCS.read_text(encoding="utf-8"), re.DOTALL
    )
    assert match is not None
    return match[1]


def output_of(*argv: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert command.main(argv) == 0
    return out.getvalue()


def test_the_documented_table_names_every_network() -> None:
    rows = catalogue_table().splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(NETWORKS)


@pytest.mark.parametrize("name", QUICK)
def test_the_documented_row_is_what_the_code_counts(name: str) -> None:
    shape, classes = native_shape(name)
    row = command.catalogue_row(describe(build(name, input_shape=shape, num_classes=classes)))
    assert command.markdown_line(row) in catalogue_table().splitlines()


@pytest.mark.slow
@pytest.mark.golden
def test_the_documented_table_is_what_the_command_writes() -> None:
    table = output_of("--markdown").strip()
    if REWRITE:
        DOCS.write_text(DOCS.read_text(encoding="utf-8").replace(catalogue_table(), table), encoding="utf-8")
    assert table == catalogue_table()


@pytest.mark.filterwarnings("ignore")
def test_the_documented_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (promised,) = re.findall(r"print\(.*\)  # (.*)", code)
    names: dict[str, object] = {}
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(code, "networks.md", "exec"), names)
    assert out.getvalue().strip() == promised
    net = names["net"]
    assert isinstance(net, StagedNet)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(lively(net)(images), net.module(images))
        assert not torch.equal(net(images, net.topology.parse("d1-1-1-1")), net(images))


def test_mobilenet_is_table_r1() -> None:
    """14 blocks; what goes in and out of each, at 224 pixels."""
    net = mobilenetv3()
    sides, outs = [], []
    with torch.no_grad():
        x = net.eval().stem(torch.zeros(1, 3, 224, 224))
        for block in range(1, 15):
            sides.append(x.shape[2])
            x = net.block(block)(x)
            outs.append(x.shape[1])
    assert sides == [112, 56, 56, 28, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7]
    assert outs == [24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160]
    assert str(net.topology.full) == "1-2.3-4-5.6-7-8-9.10-11.12-13-14"
    assert net.topology.fixed == {1: RESOLUTION, 3: RESOLUTION, 6: RESOLUTION, 10: CHANNELS, 12: RESOLUTION}


@pytest.mark.parametrize(("name", "count"), [("resnet20", 27), ("resnet32", 125), ("resnet44", 343), ("resnet110", 5832)])
def test_counts_of_cifar_resnets(name: str, count: int) -> None:
    net = build(name, input_shape=(3, 32, 32), num_classes=10)
    assert count_ordered(net.topology) == count
    size = net.topology.sizes[0]
    assert net.topology.fixed == {size + 1: RESOLUTION, 2 * size + 1: RESOLUTION}


@pytest.mark.parametrize(
    ("name", "side", "stride"),
    [("mobilenetv3", 32, 16), ("mobilenetv3", 96, 32), ("resnet18", 32, 8), ("resnet18", 96, 32), ("densenet121", 32, 8)],
)
def test_stems_by_image_size(name: str, side: int, stride: int) -> None:
    """Small images keep their resolution in the stem."""
    net = build(name, input_shape=(1, side, side), num_classes=3).eval()
    with torch.no_grad():
        x = torch.zeros(1, 1, side, side)
        for part in net.route(net.topology.full)[:-1]:
            x = part.module(x)
    assert x.shape[2] == side // stride


def test_published_costs() -> None:
    """Source: torchvision's documentation of its weights (`num_params`)."""
    for name, parameters in (("mobilenetv3", 5_483_032), ("resnet18", 11_689_512), ("densenet121", 7_978_856)):
        assert Costs(build(name, input_shape=(3, 224, 224), num_classes=1000)).main.parameters == parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "there is no network 'resnet21'; allowed: mobilenetv3, resnet20"),
        ("mobilenetv3-w0", "a width of 0.0"),
        ("mobilenetv3-w3", "a width of 3.0; allowed: more than 0, at most 2"),
        ("densenet-4-6", "there is no network"),
        ("densenet-2-2-2-2-2-2-k4", "images of 8x8 pixels for 6 dense blocks; allowed: at least 32 pixels"),
        ("resnet50-w0.5", "there is no network"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build(name, input_shape=(3, SIDE, SIDE), num_classes=5)


def test_one_network_on_the_command_line() -> None:
    page = output_of("mobilenetv3", "--spec", "d1-1-1-1-1", "1-2.3-5-4.6-7-8-9.10-11.12-13-14")
    for line in (
        "mobilenetv3: images 3x224x224, 1000 classes",
        "144 ordered sub-networks",
        "511 sets of blocks to delete",
        "23 orders of blocks",
        "5,483,032 parameters, 216.6 M MACs",
    ):
        assert line in page.splitlines()
    assert re.search(rf"block1 .*stage 1, not removable: {RESOLUTION}", page)
    assert re.search(r"block13 to 14 .*stage 5, removable \(each\)", page)
    assert "d1-1-1-1-1: ordered, 3,357,024 parameters, 100.8 M MACs (46.6% of main)" in page
    assert "1-2.3-5-4.6-7-8-9.10-11.12-13-14: permute, 5,483,032 parameters" in page


def test_a_network_without_batch_norms_is_called_one() -> None:
    sentence = "no batch norms: sub-networks need no re-calibration"
    assert sentence in output_of("vit-1-2-d8", "--shape", "1x28x28").splitlines()
    assert sentence not in output_of("resnet20").splitlines()
    assert json.loads(output_of("convnext-1-2-d8", "--json", "-"))["batch_norms"] == 0


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (
            "vit-tiny",
            (1, 30, 30),
            "images of 30x30 pixels for a vision transformer; allowed: squares whose side is a multiple of 4",
        ),
        ("vit-tiny", (1, 28, 32), "images of 28x32 pixels"),
        ("vit-tiny", (3, 100, 100), "a multiple of 16"),
        ("vit-2-2-d40", (1, 28, 28), "a width of 40; allowed: multiples of 16"),
        ("convnext-1-1-1-1-d8", (1, 8, 8), "images of 8x8 pixels for 4 stages; allowed: at least 16 pixels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name: str, shape: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        build(name, input_shape=shape, num_classes=5)


def test_one_network_as_json(tmp_path: Path) -> None:
    output_of(
        "densenet-2-2-k4", "--shape", "1x28x28", "--classes", "10", "--spec", "d1-2", "--json", str(tmp_path / "net.json")
    )
    description = json.loads((tmp_path / "net.json").read_text())
    assert description["counts"] == {"ordered": 4, "delete": 0, "permute": 0}
    assert list(description["parts"]) == ["stem", "block1", "block2", "transition1", "block3", "block4", "head"]
    assert sum(part["macs"] for part in description["parts"].values()) == description["macs"]
    (spec,) = description["specs"]
    assert spec["short"] == "d1-2"
    assert 0 < spec["parameters"] < description["parameters"]
    assert json.loads(output_of("resnet20", "--json", "-"))["removable"] == [1, 2, 3, 5, 6, 8, 9]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["resnet20", "--shape", "32"], "--shape 32; allowed: CxHxW"),
        (["resnet20", "--classes", "0"], "--classes 0; allowed: 1 and more"),
        (["--spec", "d1-1-1"], "--spec without a network"),
        (["--classes", "0"], "--classes without a network"),
        (["resnet20", "--markdown"], "--markdown with one network"),
        (["resnet20", "--spec", "d9-1-1"], "no ordered sub-network of resnet20"),
    ],
)
def test_wrong_use_of_the_command_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command.main(argv)
