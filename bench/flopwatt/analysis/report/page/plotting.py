"""vl-convert: the JavaScript that draws the page's figures, and figures as PNG without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flopwatt.analysis.report.page.figure import CONFIG, Figure, Spec
from flopwatt.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

VEGA_LITE: Final = "6.4"
WIDTH: Final = 760
SCALE: Final = 2.0


def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `vegaEmbed`. Raises InputError without vl-convert."""
    bundle: str = _vl_convert().javascript_bundle(vl_version=VEGA_LITE)
    return bundle


def png(figure: Figure, subtitle: str) -> bytes:
    """One figure on white, its title and a subtitle above it. Raises InputError without vl-convert."""
    spec = {
        **_wide(figure.spec),
        "padding": 14,
        "title": {"text": figure.title, "subtitle": subtitle, "offset": 12},
        "config": {**CONFIG, "background": "white", "font": "DejaVu Sans, sans-serif"},
    }
    image: bytes = _vl_convert().vegalite_to_png(spec, vl_version=VEGA_LITE, scale=SCALE, allowed_base_urls=[])
    return image


def _wide(spec: Spec) -> Spec:
    if "vconcat" in spec:
        return {**spec, "vconcat": [_wide(panel) for panel in spec["vconcat"]]}
    return {**spec, "width": WIDTH}


def _vl_convert() -> ModuleType:
    try:
        import vl_convert
    except ImportError:
        raise InputError("a report needs vl-convert-python: pip install vl-convert-python") from None
    module: ModuleType = vl_convert
    return module
