"""The accuracy/offload curve for a terminal."""

from __future__ import annotations

from heliograph.inference.tuning.curve import Choice, Curve, thinned


def plot(curve: Curve, choice: Choice | None = None, width: int = 72, height: int = 16) -> str:
    """Plot the curve as text, ``width`` columns × ``height`` lines, with the choice as a dot."""
    from plotext import figure, uncolorize

    shown = thinned(curve, 4 * width)
    figure.clear()
    figure.plot_size(width, height)
    figure.draw(figure.signal(shown.offload.tolist(), shown.accuracy.tolist(), marker="braille").lines())
    if choice is not None:
        figure.draw(figure.signal([choice.point.offload], [choice.point.accuracy], marker="●"))
    figure.title(f"accuracy over offload · {curve.rule} · {curve.samples} samples")
    return str(uncolorize(str(figure.build())))
