"""Appendix B of the paper beside what was measured: a promise, and how near it comes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.frame import Frame
from stimcore.analysis import loafing
from stimcore.serve.types import MethodInfo

FORMULA = (
    r"\left|\,CE_{\text{main}} - \overline{CE}_{\text{sub}}\,\right| \;<\; "
    r"\varepsilon_1 + \frac{\varepsilon_2 + \log N}{e^{-\varepsilon_1}}"
)


def number(value: float) -> str:
    """A number of nats that may be astronomically large."""
    if math.isinf(value):
        return "beyond any number"
    return f"{value:.3g}" if abs(value) < 1e5 else f"10^{math.log10(value):.0f}"


def theory(here: Frame, swept: Sequence[tuple[MethodInfo, Mapping[str, Any]]]) -> None:
    """The panel."""
    with st.expander("What the theory promises (Appendix B), and what was measured", key="theory"):
        st.markdown(
            "The paper proves that the gap between the loss of the whole network and the mean loss of its "
            "sub-networks stays below a "
            "bound. Training pushes both ingredients down: ε₁, the largest cross entropy of the whole network on "
            "any image, and ε₂, "
            "the largest mean disagreement (KL divergence) of a sub-network with the whole. *N* is the number of classes."
        )
        st.latex(FORMULA)
        rows = []
        for method, sweep in swept:
            found = loafing.bound(sweep, len(here.experiment.classes))
            if found is None:
                rows.append({"Method": here.style(method).label, "● measured gap": "not stored: sweep again with --store"})
                continue
            rows.append(
                {
                    "Method": f"{here.style(method).glyph} {here.style(method).label}",
                    "● measured gap": f"{found.gap:.3f}",
                    "● ε₁": number(found.eps1),
                    "● ε₂": number(found.eps2),
                    "bound": number(found.limit),
                    "holds": "yes" if found.gap < found.limit else "no",
                }
            )
        st.table(rows, border="horizontal")
        st.caption(
            "All in nats, on the same images. Read it with care: ε₁ is the worst single image, and it stands in "
            "an exponent, so the bound "
            f"is far above the gap; and even with ε₁ = ε₂ = 0 it is log N = "
            f"{math.log(len(here.experiment.classes)):.2f}. It says "
            "why the gap can't grow without limit, not how small it is. The measured gap is the better evidence."
        )
