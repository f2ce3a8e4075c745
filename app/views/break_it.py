"""Break it: delete and move blocks, and watch which training method still works."""

import random
from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import arrangement as state
from app import lesson, sources
from app.diagram import diagram
from app.frame import Frame, footer, frame, images, plain
from app.lanes import Lane, lanes
from app.watch import Watched, pause_s, watch, watch_only
from stimcore.subnets.topology import Topology

S = st.session_state
POLL_S = 0.25
FEW = 3
"""Methods that one sentence can name."""
LEAD = (
    "The same network, trained in different ways on the same images. Take a block out, or put blocks in "
    "another order, and see how many "
    "images each copy still gets right. A network whose blocks *loaf* leaves the work to the others and falls apart."
)


def edit(topology: Topology, text: str) -> None:
    """The only writer of the spec: refuses what this network does not have, and remembers the way back."""
    old = S.get("spec") or str(state.full(topology))
    arrangement, why = state.explain(topology, text)
    S["refusal"] = why
    if not why and str(arrangement) != old:
        S.setdefault("undo", []).append(old)
        S["spec"] = str(arrangement)


def from_diagram(topology: Topology) -> None:
    """What the visitor did in the picture."""
    S["revision"] = S.get("revision", 0) + 1
    edit(topology, S["net"].text or "")


def undo() -> None:
    """Takes the last edit back."""
    if S.get("undo"):
        S["spec"] = S["undo"].pop()


def tools(topology: Topology, here: Frame) -> None:
    """Ready-made edits, undo, reset."""
    whole = str(state.full(topology))
    ready = state.presets(topology)
    with st.container(horizontal=True, key="tools", gap="small"):
        st.button(
            "Undo", on_click=undo, disabled=not S.get("undo"), key="undo_button", icon=":material/undo:", shortcut="Ctrl+Z"
        )
        st.button("Reset", on_click=edit, args=(topology, whole), key="reset", icon=":material/restart_alt:")
        for name, text in ready.items():
            st.button(name, on_click=edit, args=(topology, text), key=f"preset {name}")
        if not here.classroom:
            st.button(
                "Surprise me",
                on_click=lambda: edit(topology, state.surprise(topology, random.Random())),
                key="surprise",
                help="A random sub-network: of every stage only the first few blocks.",
            )


def headline(here: Frame, arrangement: state.Arrangement, found: Sequence[Watched]) -> str:
    """The finding in one sentence, in words."""
    topology = here.topology
    if arrangement.spec == topology.full:
        scores = _all_whole(here)
        return (
            f"Nothing is missing yet. Of all images, the full network gets {scores} right. "
            "**Now click a block to take it out.**"
        )
    known = [(m, w.result) for m, w in zip(here.methods, found, strict=True) if w.result]
    if not known:
        return "Measuring …"
    if len(known) > FEW:
        ordered = sorted(known, key=lambda pair: pair[1].drop_pct)
        known = [ordered[0], ordered[-1]]
    parts = [f"{here.style(m).label.lower()} {_loses(r.drop_pct)}" for m, r in known]
    if len(here.methods) > FEW:
        parts[0], parts[-1] = f"{parts[0]}, least of all", f"{parts[-1]}, most of all"
    words = state.in_words(topology, arrangement)
    note = state.unpractised(topology, arrangement)
    return f"{words[0].upper()}{words[1:]}: {', '.join(parts)}." + (f" {note}" if note else "")


def _all_whole(here: Frame) -> str:
    if len(here.methods) > FEW:
        values = [m.main.accuracy_pct for m in here.methods]
        return f"between **{min(values):.1f} %** and **{max(values):.1f} %**, whichever way it was trained,"
    return " and ".join(f"**{m.main.accuracy_pct:.1f} %** after {here.style(m).label.lower()}" for m in here.methods)


def _loses(points: float) -> str:
    if abs(points) < 0.05:
        return "loses **nothing**"
    return f"{'loses' if points >= 0 else 'gains'} **{abs(points):.1f} points**"


def rows(here: Frame, arrangement: state.Arrangement, found: Sequence[Watched], covered: bool) -> list[Lane]:
    """A lane per method."""
    changed = arrangement.spec != here.topology.full
    made = []
    for method, watched in zip(here.methods, found, strict=True):
        look, result = here.style(method), watched.result
        reference = (
            watched.job.main if watched.job and watched.job.main and not watched.job.request.recalibrate else method.main
        )
        made.append(
            Lane(
                key=method.name,
                name=look.label,
                glyph=look.glyph,
                color=look.color,
                full_pct=reference.accuracy_pct,
                accuracy_pct=result.accuracy_pct if result else None,
                interval_pct=result.interval_pct if result else (0.0, 100.0),
                drop_pct=result.drop_pct if result and changed else None,
                drop_interval_pct=result.drop_interval_pct if result else (0.0, 0.0),
                guess_pct=S.get("guesses", {}).get(method.name) if S.get("revealed") == str(arrangement) else None,
                hidden=covered,
            )
        )
    return made


def reveal(here: Frame, arrangement: state.Arrangement) -> None:
    """Uncovers the answers, and keeps the guesses for the picture: their sliders go away."""
    S.update(revealed=str(arrangement), guesses={m.name: S.get(f"guess {m.name}") for m in here.methods})


def guesses(here: Frame, arrangement: state.Arrangement) -> bool:
    """Predict, then reveal: sliders while the answer is covered. Returns whether it is."""
    if arrangement.spec == here.topology.full:
        return False
    wanted = here.classroom or S.get("guess_first")
    if not wanted or S.get("revealed") == str(arrangement):
        return False
    with st.container(key="guess", border=True):
        st.markdown("**Your guess:** of 100 images, how many will each copy still get right?")
        for column, method in zip(st.columns(len(here.methods)), here.methods, strict=True):
            column.slider(here.style(method).label, 0, 100, value=50, key=f"guess {method.name}", format="%d of 100")
        st.button("Reveal", type="primary", key="reveal", on_click=reveal, args=(here, arrangement))
    return True


def results(here: Frame, arrangement: state.Arrangement, requests: Sequence[sources.Ask], covered: bool, busy: bool) -> None:
    """The lanes and what stands under them; polled while something is measured."""
    found = [watch(request) for request in requests]
    done = all(w.finished for w in found)
    if not covered:
        st.markdown(headline(here, arrangement, found))
    lanes(rows(here, arrangement, found, covered), done=done, large=here.classroom, key="lanes")
    below(here, found, done)
    if done == busy:
        st.rerun()  # one run of the page switches polling on or off


def below(here: Frame, found: Sequence[Watched], done: bool) -> None:
    """Progress or provenance, and the buttons that go with it."""
    for method, watched in zip(here.methods, found, strict=True):
        if watched.problem:
            st.error(plain(f"{here.style(method).label}: {watched.problem}"))
    failed = any(w.problem for w in found)
    with st.container(horizontal=True, vertical_alignment="center", key="below"):
        if not done:
            seen, total = sum(w.images for w in found), sum(w.images_total for w in found)
            st.progress(seen / total if total else 0.0, text=_progress(found))
            st.button("Stop", key="stop", on_click=_stop, args=(found,), icon=":material/stop_circle:")
            return
        st.markdown(_provenance(here, found))
        if failed:
            st.button("Try again", key="again", type="primary", on_click=_again, args=(found, False))
        elif any(w.stopped for w in found):
            st.button("Go on", key="again", on_click=_again, args=(found, None))
        elif not here.classroom:
            st.button(
                "Measure here now",
                key="fresh",
                on_click=_again,
                args=(found, True),
                help="Runs every image through the networks again on this machine, and shows the numbers narrowing.",
            )


def _stop(found: Sequence[Watched]) -> None:
    for watched in found:
        watched.stop()


def _again(found: Sequence[Watched], fresh: bool | None) -> None:
    for watched in found:
        watched.again(fresh=watched.fresh if fresh is None else fresh)


def _progress(found: Sequence[Watched]) -> str:
    if any(w.phase == "calibrate" for w in found):
        return "Step 1 of 2: fitting the batch-norm statistics to what is left of the network"
    seen, total = min((w.images for w in found), default=0), max((w.images_total for w in found), default=0)
    return f"{seen:,} of {images(total)}" if seen else "Waiting for the first images"


def _provenance(here: Frame, found: Sequence[Watched]) -> str:
    if any(w.stopped for w in found):
        counted = min((w.images for w in found), default=0)
        return f"Stopped: counted on {images(counted)} only." if counted else "Stopped before the first number."
    origins = {w.job.source for w in found if w.job}
    count = images(min((w.images for w in found), default=0))
    if origins == {"stored"}:
        return f"Done: measured on {count} when the bundle was made."
    if "stored" in origins:
        return f"Done: measured on {count}, partly when the bundle was made, partly here."
    where = next((w.job.provider for w in found if w.job and w.job.provider), "")
    return f"Done: measured here on {count} ({sources.provider_words(where)})."


def settings(topology: Topology, classroom: bool) -> tuple[str, bool]:
    """The code of the arrangement and whether batch norms are re-calibrated; the switch of guessing first."""
    whole = str(state.full(topology))
    with st.container(horizontal=True, vertical_alignment="bottom", key="settings", gap="medium"):
        text = st.text_input(
            "Architecture code",
            value=whole,
            key="spec",
            bind="query-params",
            help="Blocks in running order; a dot between stages, x before a deleted block. The page's address carries it too.",
        )
        if classroom:
            return text or whole, True
        st.toggle(
            "Guess first",
            key="guess_first",
            bind="query-params",
            help="Covers each answer until you have said what you expect.",
        )
        recalibrate = st.toggle(
            "Re-calibrate",
            value=True,
            key="recalibrate",
            bind="query-params",
            help=(
                "A network scales its signals by averages that were recorded with every block in place (batch norm). "
                "Re-calibration records them again for what is left, on training images. Switch it off to see how "
                "much of the damage is only "
                "stale averages."
            ),
        )
    return text or whole, recalibrate


def page() -> None:
    """Draws the page."""
    here = frame("Break the network", LEAD, beside=lesson.button)
    topology = here.topology
    lesson.steps(topology)
    tools(topology, here)
    slot, answer, extra = st.container(), st.container(), st.container()
    with extra:
        text, recalibrate = settings(topology, here.classroom)
    arrangement, why = state.explain(topology, text)
    with slot:
        if why or S.get("refusal"):
            st.error(plain(why or S.pop("refusal")) + (" Showing the full network." if why else ""))
        diagram(
            topology,
            arrangement,
            revision=S.get("revision", 0),
            large=here.classroom,
            key="net",
            on_edit=partial(from_diagram, topology),
        )
    with answer:
        covered = guesses(here, arrangement)
        asks = [
            sources.Ask(here.experiment.name, m.name, m.fingerprint, (str(arrangement.spec),), recalibrate)
            for m in here.methods
        ]
        watch_only(asks)
        busy = not all(watch(ask).finished for ask in asks)
        st.fragment(results, run_every=pause_s(POLL_S) if busy else None)(here, arrangement, asks, covered, busy)
    if not here.classroom:
        footer(here)


if __name__ == "__main__":
    page()
