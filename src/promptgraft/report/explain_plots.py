"""Draws what was found out about a prompt: norms, attention by layer, and the loss without each vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from promptgraft.engine.attended import AttentionShares
from promptgraft.engine.explain import ExplainedMember
from promptgraft.engine.left_out import LeftOut
from promptgraft.engine.near_words import NearWords, Norms
from promptgraft.report.plots import WIDTH, Plot
from promptgraft.report.svg import COLOURS, STYLE, inline
from promptgraft.untrusted import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.6
Z = 1.96
SIDES = ("scratch", "panda", "source")
"""The colours of attentions of an encoder or decoder alone, and of the other two sides."""


def draw(member: ExplainedMember, prefix: str) -> list[Plot]:
    """All pictures for which a member has figures.

    Args:
        prefix: leads the ids of the pictures.
    """
    import matplotlib

    plots = []
    with matplotlib.rc_context(STYLE):
        if member.words is not None:
            plots.append(_norms(member.words, f"{prefix}-norms"))
        if member.attention is not None:
            plots.append(_attention(member.attention, f"{prefix}-attention"))
        if member.left_out is not None:
            plots.append(_left_out(member.left_out, member.words, f"{prefix}-left"))
    return plots


def _figure(panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with panels one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT * (0.4 + 0.6 * panels)), layout="constrained")
    axes = [figure.add_subplot(panels, 1, number + 1) for number in range(panels)]
    for panel in axes:
        panel.grid(alpha=0.6)
        panel.set_axisbelow(True)
    return figure, axes


def _whole(panel: Axes) -> None:
    """Let the ticks of a panel stand at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(12, integer=True))


def _norms(near: NearWords, prefix: str) -> Plot:
    """The picture of norms beside the band of the vocabulary's."""
    parts = list(dict.fromkeys(norms.part for norms in near.norms))
    figure, axes = _figure(len(parts))
    tips: dict[str, str] = {}
    for part, panel in zip(parts, axes, strict=True):
        own = [norms for norms in near.norms if norms.part == part]
        _by_vector(panel, own[0], near, tips) if part == "embeddings" else _by_layer(panel, own, tips)
        panel.set_ylabel(f"norm of {part}")
        panel.set_ylim(0, 1.06 * max(max(*norms.vectors, norms.high) for norms in near.norms if norms.part == part))
        _whole(panel)
    axes[-1].set_xlabel("vector" if parts == ["embeddings"] else "layer")
    caption = "Points: vectors of the prompt. Band: nine tenths of the words; line: their middle."
    return Plot("Norms", inline(figure, prefix, "Norms of the prompt's vectors and of words", tips), caption)


def _by_vector(panel: Axes, norms: Norms, near: NearWords, tips: dict[str, str]) -> None:
    panel.axhspan(norms.low, norms.high, color=COLOURS["placebo"], alpha=0.25, linewidth=0)
    panel.axhline(norms.middle, color=COLOURS["placebo"], linewidth=1)
    for place, norm in enumerate(norms.vectors):
        (mark,) = panel.plot(place + 1, norm, "o", color=COLOURS["scratch"], markersize=5)
        mark.set_gid(f"vector{place}")
        tips[f"vector{place}"] = visible(f"vector {place + 1}: {norm:.2f}, near {near.nearest[place][0].word}")


def _by_layer(panel: Axes, own: list[Norms], tips: dict[str, str]) -> None:
    places = [norms.layer for norms in own]
    panel.fill_between(
        places, [norms.low for norms in own], [norms.high for norms in own], color=COLOURS["placebo"], alpha=0.25,
        linewidth=0, step="mid",
    )  # fmt: skip
    panel.plot(places, [norms.middle for norms in own], color=COLOURS["placebo"], linewidth=1, drawstyle="steps-mid")
    for norms in own:
        (marks,) = panel.plot(
            [norms.layer] * len(norms.vectors), norms.vectors, "o", color=COLOURS["scratch"], markersize=3, alpha=0.6
        )
        name = f"{norms.part}{norms.layer}"
        marks.set_gid(name)
        tips[name] = f"layer {norms.layer}: {min(norms.vectors):.2f} to {max(norms.vectors):.2f}"


def _attention(attention: AttentionShares, prefix: str) -> Plot:
    """The picture of the share of attention that the prompt gets in each layer."""
    figure, [panel] = _figure()
    tips = {}
    stems = [name.rpartition(" ")[0] for name in attention.names]
    order = list(dict.fromkeys(stems))
    for place, (name, share) in enumerate(zip(attention.names, attention.totals, strict=True)):
        colour = COLOURS[SIDES[order.index(stems[place]) % len(SIDES)]]
        [bar] = panel.bar(place + 1, 100 * share, width=0.75, color=colour)
        bar.set_gid(f"layer{place}")
        tips[f"layer{place}"] = f"{name}: {100 * share:.1f} %"
    if attention.even is not None:
        panel.axhline(100 * attention.even, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
    _whole(panel)
    panel.set_xlim(0.4, len(attention.names) + 0.6)
    panel.set_xlabel("layer" if len(order) == 1 else "attention, in the order of the pass")
    panel.set_ylabel("attention on the prompt, %")
    if len(order) > 1:
        _key(figure, order)
    even = " The dashed line is what it would get if all that a token sees got alike." if attention.even else ""
    caption = f"Mean over heads, the text's tokens and {attention.rows} texts.{even}"
    return Plot("Attention by layer", inline(figure, prefix, "Attention on the prompt by layer", tips), caption)


def _key(figure: Figure, names: list[str]) -> None:
    """Draw the key of a model's sides above the picture."""
    from matplotlib.patches import Patch

    keys = [Patch(color=COLOURS[SIDES[place % len(SIDES)]]) for place in range(len(names))]
    figure.legend(keys, names, loc="outside upper right", ncols=len(names), frameon=False, fontsize=9)


def _left_out(left: LeftOut, near: NearWords | None, prefix: str) -> Plot:
    """The picture of how much the loss grows without each vector."""
    figure, [panel] = _figure()
    tips = {}
    panel.axhline(0, color=COLOURS["muted"], linewidth=1)
    panel.axhline(left.prompt.change, color=COLOURS["source"], linewidth=1, linestyle=(0, (4, 3)))
    word: Callable[[int], str] = lambda place: "" if near is None else f", near {near.nearest[place][0].word}"  # noqa: E731
    for place, own in enumerate(left.vectors):
        if own.error is not None:
            ends = [own.change - Z * own.error, own.change + Z * own.error]
            panel.plot([place + 1] * 2, ends, color=COLOURS["scratch"], linewidth=5, alpha=0.28, solid_capstyle="butt")
        (mark,) = panel.plot(place + 1, own.change, "o", color=COLOURS["scratch"], markersize=5)
        mark.set_gid(f"vector{place}")
        tips[f"vector{place}"] = visible(f"without vector {place + 1}{word(place)}: {own.change:+.3f}")
    _whole(panel)
    panel.set_xlabel("vector that is left out")
    panel.set_ylabel("change of the loss")
    caption = (
        "Above 0: the vector helps these rows. Bars: 95 % interval over rows. "
        f"The dashed line is the loss without the whole prompt ({left.prompt.change:+.3f})."
    )
    return Plot("Loss when a vector is left out", inline(figure, prefix, "Loss without each vector", tips), caption)
