"""The program runs and unpickles nothing that others wrote: neither checkpoints nor arrays nor what a client sent."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAFELY = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
NEVER = ("joblib.load", "pickle.load", "pickle.Unpickler", "eval", "exec", "torch.package.PackageImporter")


def calls() -> Iterator[tuple[str, str, list[str]]]:
    """File, function and keywords of every call in the program."""
    for path in sorted([*(ROOT / "stimcore").rglob("*.py"), *(ROOT / "app").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = [f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords]
                yield path.relative_to(ROOT).as_posix(), ast.unparse(node.func), keywords


def test_nothing_that_others_wrote_is_unpickled_or_run() -> None:
    loads = list(calls())
    assert {name for _, name, _ in loads} >= set(SAFELY)
    for path, name, keywords in loads:
        assert name not in NEVER, (path, name)
        assert name not in SAFELY or SAFELY[name] in keywords, (path, name, keywords)
    assert {path for path, name, _ in loads if name == "pickle.loads"} == {"stimcore/serve/workers/messages.py"}, (
        "between our processes"
    )
