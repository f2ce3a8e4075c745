"""Names of parts: printing and parsing are inverse, and nothing else is a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimcore.errors import SpecError
from stimcore.subnets.part_name import HEAD, STEM, PartName

NUMBERS = st.integers(1, 2000)
NAMES = st.one_of(
    st.sampled_from([STEM, HEAD]),
    st.builds(PartName.block, NUMBERS, st.none() | NUMBERS),
    st.builds(PartName.transition, NUMBERS),
    st.builds(PartName.transition, NUMBERS, NUMBERS, NUMBERS),
    st.builds(lambda entering, depth: HEAD._replace(entering=entering, depth=depth), NUMBERS, NUMBERS),
)


@given(NAMES)
def test_parsing_is_the_inverse_of_printing(name: PartName) -> None:
    assert PartName.parse(str(name)) == name
    assert str(name) == str(name.whole) + name.suffix
    assert name.whole.whole == name.whole
    assert not name.whole.narrowed
    assert (name.whole == name) is not name.narrowed


@pytest.mark.parametrize(
    "text",
    [
        *("", "block", "block0", "block01", "block-1", "Block1", "block1 ", " block1", "block1\n", "block1@", "block1@0"),
        *(
            "block1@x",
            "block1@28+2",
            "transition",
            "transition1@24",
            "head1",
            "head@12",
            "stem@3",
            "stem1",
            "head@+2",
            "block١",
        ),
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="there is no part"):
        PartName.parse(text)
