"""The form that starts a training, and who may use it."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import notices, session
from app.access import is_this_machine
from app.sources import connection, trainings
from app.text import as_sentence, images, plain
from stimcore.errors import StimcoreError
from stimcore.figures.style import method_style
from stimcore.serve.types import RunRequest, TrainingData, TrainingOffer

SHARES = {"a fiftieth": 0.02, "a twentieth": 0.05, "a tenth": 0.1, "a quarter": 0.25, "all": 1.0}
"""Parts of the training images that the form offers."""
EVALUATION_COST = 1 / 3
"""Time of evaluating an image over that of training on one: a forward pass without a backward one."""
NAMES = {"fashion-mnist": "Fashion-MNIST", "mobilenetv3-w0.5": "MobileNetV3, half width"}
DEFAULT_NETWORK = "resnet14"
NUM_FIRST = 2
"""Methods that are chosen at first; the others stand behind an expander."""


@dataclass(frozen=True)
class Choice:
    """What the form says.

    Attributes:
        network: Name of the network.
        data: The images.
        train_per_class: Training images per class; None for all.
        epochs: Number of epochs.
        methods: Training methods, one run each.
        weight: Lambda; None for the default.
        seed: The seed.
    """

    network: str
    data: TrainingData
    train_per_class: int | None
    epochs: int
    methods: Sequence[str]
    weight: float | None
    seed: int

    def requests(self) -> list[RunRequest]:
        """Return one request per method."""
        return [
            RunRequest(
                network=self.network,
                dataset=self.data.name,
                method=method,
                epochs=self.epochs,
                train_per_class=self.train_per_class,
                weight=self.weight if method == "stimulative" else None,
                seed=self.seed,
            )
            for method in self.methods
        ]


def may_train() -> bool:
    """Return whether this visitor may start, stop and continue runs: from this machine, or with the admin token."""
    token, typed = connection.admin_token(), session.memory(session.Trainer).token
    known = token is not None and hmac.compare_digest(token.encode(), typed.encode("utf-8", "replace"))
    return is_this_machine() or known


def order(action: str, name: str) -> None:
    """Stop or continue a run for a visitor who may; the page tells a refusal."""
    if may_train():
        notices.tell("training")
        try:
            (trainings.stop_run if action == "stop" else trainings.continue_run)(name)
        except StimcoreError as error:
            notices.tell("training", as_sentence(error))


def start_panel(offer: TrainingOffer) -> None:
    """Draw the form; a sentence where the server trains nothing, and a field for the token where the visitor may not."""
    with st.container(key="start", border=True):
        if not offer.allowed:
            st.markdown("**Train your own**")
            st.info(plain(offer.reason))
            return
        if not may_train():
            _token_field()
            return
        choice = _form(offer)
        st.caption(_estimate(offer, choice))
        st.button(
            "Start",
            type="primary",
            key="start_run",
            disabled=not choice.methods,
            on_click=_start,
            args=(choice,),
            icon=":material/play_arrow:",
        )


def title(name: str) -> str:
    """Return a network's, method's or data set's name for a reader.

    Example:
        >>> title("resnet14"), title("folder:birds"), title("fashion-mnist")
        ('ResNet-14', 'birds (folder)', 'Fashion-MNIST')
    """
    if name.startswith("folder:"):
        return f"{name.removeprefix('folder:')} (folder)"
    depth = name.removeprefix("resnet")
    return f"ResNet-{depth}" if name.startswith("resnet") and depth.isdigit() else NAMES.get(name, name)


def _form(offer: TrainingOffer) -> Choice:
    """Draw the fields and return what they say."""
    left, right = st.columns(2, gap="small")
    network = left.selectbox(
        "Network",
        offer.networks,
        index=list(offer.networks).index(DEFAULT_NETWORK) if DEFAULT_NETWORK in offer.networks else 0,
        format_func=title,
        key="train_network",
        help="ResNet-8 has one block per stage, so that no part of it is watched. The larger ones have a fan.",
    )
    by_name = {data.name: data for data in offer.datasets}
    data = by_name[right.selectbox("Images", list(by_name), format_func=title, key="train_data")]
    share = left.selectbox("Of the training images", list(SHARES), index=2, key="train_share")
    epochs = int(right.number_input("Epochs", 1, offer.max_epochs, min(4, offer.max_epochs), key="train_epochs"))
    methods = _method_pills("Train with (one run each)", offer.methods[:NUM_FIRST], offer.methods[:NUM_FIRST], "train_methods")
    with st.expander("Other methods, λ, seed"):
        methods += _method_pills("Other methods", offer.methods[NUM_FIRST:], (), "train_others")
        first, second = st.columns(2, gap="small")
        weight = first.number_input(
            "λ",
            0.01,
            1000.0,
            1.0,
            key="train_weight",
            help="How strongly a part must agree with the whole, in stimulative training.",
        )
        seed = int(second.number_input("Seed", 0, 2**31 - 1, 0, key="train_seed", help="Another seed: other random numbers."))
    return Choice(
        network=network,
        data=data,
        train_per_class=None if share == "all" else max(1, round(data.per_class * SHARES[share])),
        epochs=epochs,
        methods=methods,
        weight=None if weight == 1.0 else float(weight),
        seed=seed,
    )


def _method_pills(label: str, names: Sequence[str], chosen: Sequence[str], key: str) -> list[str]:
    """Draw a choice of methods and return the chosen ones in the order of the list."""
    selected = st.pills(
        label,
        names,
        default=list(chosen),
        selection_mode="multi",
        format_func=lambda name: method_style(name).label,
        key=key,
        wrap=True,
    )
    return [name for name in names if name in (selected or [])]


def _estimate(offer: TrainingOffer, choice: Choice) -> str:
    """Return in words how long the runs take, from the server's speed table."""
    paces = [offer.paces.get(choice.network, {}).get(method) for method in choice.methods]
    num_train = (choice.train_per_class or choice.data.per_class) * choice.data.num_classes
    each = f"{images(num_train)} in every epoch"
    if not choice.methods:
        return "Choose at least one way to train."
    known = [pace for pace in paces if pace]
    if len(known) < len(paces) or not known:
        return f"{each}. How long that takes is known after the first epoch."
    work = choice.epochs * (num_train + EVALUATION_COST * choice.data.num_test)
    minutes = sum(work / pace for pace in known) / 60
    time = f"{max(1, round(60 * minutes))} seconds" if minutes < 1.5 else f"{round(minutes)} minutes"
    return f"{each}: about {time} at the speed of the last run here, or of one core of an Intel Xeon."


def _start(choice: Choice) -> None:
    """Send the requests, one after the other; the page tells what was refused."""
    if not may_train():
        return
    refused = []
    for request in choice.requests():
        try:
            trainings.start_run(request)
        except StimcoreError as error:
            refused.append(as_sentence(error))
    notices.tell("training", *dict.fromkeys(refused))  # two methods are refused for one reason


def _token_field() -> None:
    st.markdown("**Train your own**")
    st.info("Runs are started on the machine of this dashboard. Here you can watch them.")
    if connection.admin_token() is not None:
        typed = st.text_input("Admin token", type="password", key="train_token")
        session.memory(session.Trainer).token = typed
        if typed:
            if may_train():
                st.rerun()
            st.error("This is not the admin token.")
