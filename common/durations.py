"""Seconds as a person says them, for logs and reports."""


def duration(seconds: float) -> str:
    """ "7.5 s", "42 s", "12 min" from a minute and a half on, "2 h 05 min" from an hour and a half on."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
