# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them: a unit always, thousands apart, decimal prefixes (1 GB = 10^9 bytes)."""

from datetime import UTC, datetime

_BYTE_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0))
_COUNT_UNITS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3))
_FLOP_UNITS = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3))
THIN = "\u202f"


def byte_unit(largest: float) -> str:
    """The unit to show a family of sizes in, chosen once for the largest of them."""
    return next((unit for unit, size in _BYTE_UNITS if largest >= size), "B")


def size(value: float, unit: str | None = None) -> str:
    """Bytes with three significant digits, in `unit` when given: size(23040) -> "23.0 KB"."""
    unit = unit or byte_unit(value)
    return (
        f"{_three_digits(value / dict(_BYTE_UNITS)[unit])}{THIN}{unit}"
        if unit != "B"
        else f"{value:,.0f}{THIN}B"
    )


def integer(value: float) -> str:
    """A whole number, thousands apart."""
    return f"{value:,.0f}".replace(",", THIN)


def count(value: float) -> str:
    """A large count in short: count(134_515_008) -> "134.5 M"."""
    for unit, scale in _COUNT_UNITS:
        if value >= scale:
            return f"{value / scale:.1f}{THIN}{unit}"
    return integer(value)


def flops(value: float) -> str:
    """Operations with three significant digits: flops(269_000_000) -> "269 MFLOP"."""
    prefix, scale = next(((one, size) for one, size in _FLOP_UNITS if value >= size), ("", 1.0))
    return f"{_three_digits(value / scale)}{THIN}{prefix}FLOP"


def times(value: float) -> str:
    """A factor: "3.2×"."""
    return f"{value:.1f}×" if value < 100 else f"{integer(value)}×"


def ratio(value: float) -> str:
    """How a quantity changed: "×1.27", "×130"."""
    return f"×{value:.2f}" if value < 10 else f"×{value:.1f}" if value < 100 else f"×{integer(value)}"


def percent(value: float, digits: int = 0) -> str:
    """A fraction as per cent: percent(0.3125, 2) -> "31.25 %"."""
    return f"{value * 100:.{digits}f}{THIN}%"


def number(value: float) -> str:
    """Any measured value with about four significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return integer(value)
    if abs(value) >= 10 and value != int(value):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.2e}"


def guess(value: float) -> str:
    """A predicted value: more than two significant digits would promise too much."""
    return f"{value:.2g}" if value >= 1e-3 else "under 0.001"


def duration(seconds: float) -> str:
    """Elapsed or remaining time: "8 s", "1 min 52 s", "2 h 05 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"


def rough_duration(seconds: float) -> str:
    """A time that is only estimated, without digits nobody can know: "40 s", "3 min", "2 h 10 min"."""
    step = 10 if seconds < 90 else 60 if seconds < 3600 else 600
    return duration(max(step, round(seconds / step) * step)).replace(f" 00{THIN}s", "")


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago: "just now", "5 min ago", "3 d ago"."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{THIN}{unit} ago"
    return "just now"


def context(tokens: int) -> str:
    """A context length: "8k", "128k", "1M"; anything uneven in full."""
    if tokens >= 1 << 20 and tokens % (1 << 20) == 0:
        return f"{tokens >> 20}M"
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens >> 10}k"
    return integer(tokens)


def short_tokens(tokens: int) -> str:
    """A number of tokens in a name: "100k", "1.5M"; anything uneven in full."""
    for letter, scale in (("M", 1_000_000), ("k", 1000)):
        if tokens >= scale and tokens % (scale // 10) == 0:
            return f"{tokens / scale:g}{letter}"
    return integer(tokens)


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}".replace(",", THIN)
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
