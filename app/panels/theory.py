"""Appendix B of the paper: the bound that it proves, next to the gap that was measured."""

import math
from collections.abc import Sequence

import streamlit as st

from app.frame import Frame
from app.text import nats, plain
from stimcore.analysis.bound import Bound, measure_bound
from stimcore.analysis.result import Sweep
from stimcore.serve.types import MethodInfo

FORMULA = (
    r"\left|\,CE_{\text{main}} - \overline{CE}_{\text{sub}}\,\right| \;<\; "
    r"\varepsilon_1 + \frac{\varepsilon_2 + \log N}{e^{-\varepsilon_1}}"
)


def theory(here: Frame, swept: Sequence[tuple[MethodInfo, Sweep]]) -> None:
    """Draw the bound and the measured gap of every method.

    Args:
        here: The page.
        swept: Methods with their accuracies of ordered sub-networks.
    """
    num_classes = len(here.experiment.classes)
    with st.expander("What the theory promises (Appendix B), and what was measured", key="theory"):
        st.markdown(
            "The paper proves that the gap between the loss of the whole network and the mean loss of its sub-networks stays "
            "below a bound. Training makes both parts of the bound smaller: ε₁, the largest cross entropy of the whole "
            "network on any image, and ε₂, the largest mean disagreement (KL divergence) of a sub-network with the whole. "
            "*N* is the number of classes."
        )
        st.latex(FORMULA)
        st.table([_row(here, method, measure_bound(sweep, num_classes)) for method, sweep in swept], border="horizontal")
        st.caption(
            "All in nats, on the same images. Read the bound with care: ε₁ comes from the worst single image and stands in an "
            "exponent, so the bound is far above the gap. Even with ε₁ = ε₂ = 0 it is log N = "
            f"{math.log(num_classes):.2f}. The bound says why the gap can't grow without limit, not how small it is. The "
            "measured gap is the better evidence."
        )


def _row(here: Frame, method: MethodInfo, bound: Bound | None) -> dict[str, str]:
    if bound is None:
        return {"Method": plain(here.title(method)), "● measured gap": "not stored: sweep again with --store"}
    return {
        "Method": plain(here.title(method)),
        "● measured gap": f"{bound.gap:.3f}",
        "● ε₁": nats(bound.eps1),
        "● ε₂": nats(bound.eps2),
        "bound": nats(bound.limit),
        "holds": "yes" if bound.gap < bound.limit else "no",
    }
