"""Tokens: from variables or files, and only such as a header can carry."""

from pathlib import Path

import pytest

from stimcore.errors import UsageError
from stimcore.serve.tokens import Tokens, read_tokens

GOOD, OTHER = "correct-horse-battery", "only-for-reading-1"


def test_tokens_come_from_variables_or_files(tmp_path: Path) -> None:
    assert read_tokens({}) == read_tokens({"STIMCORE_TOKEN": "", "STIMCORE_TOKEN_FILE": ""}) == Tokens()
    for ending in ("", "\n", "\r\n"):
        (tmp_path / "token").write_bytes(GOOD.encode() + ending.encode())
        assert read_tokens({"STIMCORE_TOKEN_FILE": str(tmp_path / "token")}) == Tokens(GOOD)
    assert read_tokens({"STIMCORE_TOKEN": GOOD, "STIMCORE_READ_TOKEN": OTHER}) == Tokens(GOOD, OTHER)
    (tmp_path / "read").write_text(OTHER)
    assert read_tokens({"STIMCORE_TOKEN": GOOD, "STIMCORE_READ_TOKEN_FILE": str(tmp_path / "read")}) == Tokens(GOOD, OTHER)


@pytest.mark.parametrize(
    "token",
    [GOOD + "\n", "\n" + GOOD, GOOD + " " + GOOD, "\t" + GOOD, GOOD + "\x00", GOOD + "é", GOOD + "\r\nX: y", "\x7f" + GOOD],
)
def test_tokens_that_no_header_carries_are_refused(token: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="STIMCORE_TOKEN holds white space or characters"):
        read_tokens({"STIMCORE_TOKEN": token})
    (tmp_path / "token").write_text(token + "\n", encoding="utf-8", newline="")
    with pytest.raises(UsageError, match="STIMCORE_TOKEN_FILE holds white space or characters"):
        read_tokens({"STIMCORE_TOKEN_FILE": str(tmp_path / "token")})


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        ({"STIMCORE_TOKEN": "short"}, "STIMCORE_TOKEN has 5 characters; allowed: 16 to 4096"),
        ({"STIMCORE_TOKEN": "x" * 5000}, "STIMCORE_TOKEN has 5000 characters"),
        ({"STIMCORE_TOKEN": GOOD, "STIMCORE_TOKEN_FILE": "/nowhere"}, "both STIMCORE_TOKEN and STIMCORE_TOKEN_FILE"),
        ({"STIMCORE_TOKEN_FILE": "/nowhere"}, "can't be read (No such file or directory)"),
        ({"STIMCORE_TOKEN_FILE": "/"}, "can't be read (Is a directory)"),
        ({"STIMCORE_READ_TOKEN": GOOD}, "STIMCORE_READ_TOKEN without STIMCORE_TOKEN"),
        ({"STIMCORE_READ_TOKEN": GOOD, "STIMCORE_TOKEN": GOOD}, "two different secrets"),
        ({"STIMCORE_READ_TOKEN": "short", "STIMCORE_TOKEN": GOOD}, "STIMCORE_READ_TOKEN has 5 characters"),
    ],
)
def test_other_mistakes_are_one_sentence(environment: dict[str, str], match: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_tokens(environment)
    assert match in str(raised.value)


def test_a_file_of_bytes_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff" * 20)
    with pytest.raises(UsageError, match="it is no text"):
        read_tokens({"STIMCORE_TOKEN_FILE": str(tmp_path / "token")})
