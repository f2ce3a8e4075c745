"""The program that we show to those who take a network away: it prepares pictures as the network's evaluation did.

It needs Pillow, numpy and onnxruntime and nothing of this project. The page *Use it*, the README and the model cards show it;
tests run it as it stands.
"""

import re
import unicodedata
from collections.abc import Sequence

from stimcore.data.preprocessing import Preprocessing, Resize

_PROGRAM = '''\
"""python classify.py PATH ...: classifies pictures and folders of them; counts right answers by the names of folders."""

import sys
from pathlib import Path
from unicodedata import normalize

import numpy as np
import onnxruntime as ort
from PIL import Image{import_ops}

CLASSES = {classes}
MEAN, STD = (np.array(values, np.float32)[:, None, None] for values in ({mean}, {std}))
WIDTH, HEIGHT = {width}, {height}


def prepare(path):
    image = Image.open(open(path, "rb"))  # opened by name, TIFF files may be mapped, and turned ones are scrambled
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError("samples of unknown range")
{tags}{turn}    if image.mode.startswith("I"):  # 12 or 16 bits
        samples = np.asarray(image).astype(np.int64)
        image = Image.fromarray({to_8_bits}.astype(np.uint8))
    image = image.convert("{mode}")
    if image.size != (WIDTH, HEIGHT):  # a picture of this size is prepared already
        scale = {scale}
        size = max(WIDTH, round(image.width * scale)), max(HEIGHT, round(image.height * scale))
        image = image.resize(size, Image.Resampling.{filter})
        left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
        image = image.crop((left, top, left + WIDTH, top + HEIGHT))
    pixels = np.asarray(image).reshape(HEIGHT, WIDTH, {channels}).transpose(2, 0, 1)
    return ((pixels.astype(np.float32) / np.float32(255) - MEAN) / STD)[None]


paths = []
for given in map(Path, sys.argv[1:]):
    inside = sorted(p for p in given.rglob("*") if p.suffix.lower() in Image.registered_extensions() and p.name[0] != ".")
    paths += inside if given.is_dir() else [given]
if not paths:
    sys.exit(__doc__)
session = ort.InferenceSession({model})
folders = {folders}
right = total = 0
for path in paths:
    try:
        images = prepare(path)
    except Exception as error:  # whatever Pillow raises for a file that is damaged or no picture
        print(f"{{path}} is left out: {{error}}", file=sys.stderr)
        continue
    (logits,) = session.run(["logits"], {{"images": images}})
    answer = int(logits[0].argmax())
    print(path, CLASSES[answer], sep=": ")
    if (folder := normalize("NFC", path.parent.name){as_written}) in folders:
        right, total = right + (folders[answer] == folder), total + 1
if total:
    print(f"{{right}} of {{total}} right: {{right / total:.4f}}")
'''
_TAGS = """\
    tags = getattr(image, "tag_v2", {})  # of TIFF files
    most = 2 ** tags.get(258, (16,))[0] - 1
    black = most if tags.get(262) == 0 else 0
"""


def folder_name(class_name: str) -> str:
    """Return the name of the folder for pictures of a class: the class's own name where every system allows it.

    Example:
        >>> folder_name("T-shirt/top"), folder_name("dog"), folder_name("..")
        ('T-shirt_top', 'dog', '_.')
    """
    plain = re.sub(r'[/\\\\:*?"<>|\x00-\x1f]', "_", unicodedata.normalize("NFC", class_name))
    return "_" + plain[1:] if plain[:1] in ("", ".") else plain


def classify_program(preprocessing: Preprocessing, classes: Sequence[str], model: str) -> str:
    """Return a program that classifies picture files with an ONNX file.

    It prepares pictures exactly as `Preprocessing.read` does; only very long and narrow ones, which that function crops before
    it resizes them, may differ by rounding.

    Args:
        preprocessing: The steps with which the network was evaluated.
        classes: Names of the classes in the order of the logits. The pictures in a folder that `folder_name` gives for one of
            them are counted.
        model: Path of the ONNX file, as the program opens it.
    """
    height, width = preprocessing.crop
    folders = [folder_name(name) for name in classes]
    resize = preprocessing.resize or Resize(shorter=0, filter="bilinear")
    # pictures lie in the user's own folders, whose names some systems allow, or in those that `folder_name` gives
    letters = {letter for name in classes for letter in name if letter not in "_/\0"}
    odd = "".join(sorted(letter for letter in letters if folder_name(f"_{letter}") == "__"))
    just_cover = "max(WIDTH / image.width, HEIGHT / image.height)"
    return _PROGRAM.format(
        import_ops=", ImageOps" if preprocessing.exif_orientation else "",
        classes=_list_literal(classes),
        as_written=f'.translate(dict.fromkeys(map(ord, {_literal(odd)}), "_"))' if odd else "",
        folders="CLASSES" if folders == list(classes) else _list_literal(folders),
        mean=list(preprocessing.normalisation.mean),
        std=list(preprocessing.normalisation.std),
        width=width,
        height=height,
        turn="    image = ImageOps.exif_transpose(image)\n" if preprocessing.exif_orientation else "",
        tags=_TAGS if preprocessing.bit_depth == "scale" else "",
        to_8_bits="((abs(samples - black) * 255 + most // 2) // most)"
        if preprocessing.bit_depth == "scale"
        else "samples.clip(0, 255)",
        mode=preprocessing.mode,
        scale=just_cover if preprocessing.resize is None else f"{resize.shorter} / min(image.size)",
        filter=resize.filter.upper(),
        channels=preprocessing.input_shape[0],
        model=_literal(model),
    )


def _list_literal(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_literal, texts))}]"


def _literal(text: str) -> str:
    """Return a Python literal in double quotes where the text has none, as formatters of Python write it.

    Example:
        >>> print(_literal("T-shirt"))
        "T-shirt"
    """
    literal = repr(text)
    return literal if '"' in literal else '"' + literal[1:-1] + '"'
