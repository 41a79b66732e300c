"""The comparison as a picture: bars of the wall time, as SVG. The same laps give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.comparing import Spread

__all__ = ["draw"]

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TITLE = 860, 190, 120, 16, 5, 40
_OURS, _PEERS, _RANGE, _TEXT = "#1f6feb", "#9aa4b2", "#57606a", "#24292f"


def draw(panels: Mapping[str, Sequence[tuple[str, Spread, bool]]], *, title: str, unit: str) -> str:
    """
    Draw a panel of bars for each load.

    Args:
        panels: By heading: contenders with their values and whether they are ours, the best one first.
        title: Of the whole.
        unit: What the values are.
    """
    parts, top = [], 50.0
    for heading, bars in panels.items():
        parts += [_text(12, top + 18, heading, size=14, weight="bold")]
        top += _TITLE - 12
        # The slowest are cut, so that the others can be told apart.
        maximum = min(max(spread.maximum for _, spread, _ in bars), 4 * bars[len(bars) // 2][1].middle)
        scale = (_WIDTH - _LEFT - _RIGHT) / maximum
        for name, spread, ours in bars:
            parts += _bar(top, name, spread, scale, maximum, colour=_OURS if ours else _PEERS)
            top += _BAR + _GAP
        top += 14
    height = top + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" font-family="sans-serif" role="img" aria-label="{escape(title)}">'
    )
    ground = f'<rect width="{_WIDTH}" height="{height:g}" fill="#ffffff"/>'
    heading_of_all = _text(12, 26, f"{title} ({unit}; the line shows the range)", size=16, weight="bold")
    return "\n".join([head, ground, heading_of_all, *parts, "</svg>"]) + "\n"


def _bar(top: float, name: str, spread: Spread, scale: float, maximum: float, *, colour: str) -> list[str]:
    """Draw a bar with its name, its range and its value."""
    middle = top + _BAR / 2
    width, minimum, end = (scale * min(value, maximum) for value in (spread.middle, spread.minimum, spread.maximum))
    cut = " ..." if spread.middle > maximum else ""
    return [
        _text(_LEFT - 8, middle + 4, name, anchor="end"),
        f'<rect x="{_LEFT}" y="{top:g}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<line x1="{_LEFT + minimum:.1f}" x2="{_LEFT + end:.1f}" y1="{middle:g}" y2="{middle:g}" stroke="{_RANGE}"/>',
        _text(_LEFT + max(width, end) + 6, middle + 4, f"{spread.middle:.2f}{cut}"),
    ]


def _text(x: float, y: float, words: str, *, size: int = 12, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{_TEXT}">{escape(words)}</text>'
    )
