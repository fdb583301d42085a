"""Every image is decoded once before anything is trained on it; what cannot be read is listed, or left out on request."""

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from common.data.cache import for_each, keep_note, noted
from common.data.dataset import Dataset, class_names
from common.data.fingerprint import content_key
from common.data.images import Filter, cache_pixels, read_image
from common.errors import UsageError

log = logging.getLogger(__name__)
UNREADABLE = "unreadable images"


def unreadable(dataset: Dataset, progress: bool = False) -> dict[str, str]:
    """Decode every image whole; name -> reason for those that cannot be (missing, damaged, not an image), sorted by name."""
    names = list(dataset.manifest["image"])
    reasons: dict[str, str] = {}

    def work(row: int) -> None:
        try:
            read_image(dataset.data_dir / names[row])
        except UsageError as error:
            reasons[names[row]] = str(error)

    for_each(work, len(names), f"{dataset.name}: checking images", progress)
    return dict(sorted(reasons.items()))


def check_readable(
    dataset: Dataset,
    skip_unreadable: bool = False,
    cache_dir: Path | str | None = None,
    pixels: tuple[int, Filter] | None = None,
) -> Dataset:
    """The data set if every image decodes; otherwise UsageError with the names, or, with `skip_unreadable`, without those images.

    Says how many images there are and what was passed over. With `cache_dir` the verdict is noted there for these very files (names and
    content), so that only the first run pays for it. With `pixels` too (side and filter that the caller will ask `cached_images` for),
    that cache is filled while the files are looked at, so every image is decoded once and not twice.
    """
    note = None
    if cache_dir is not None:
        dataset = replace(dataset, cache_dir=Path(cache_dir))
        with suppress(UsageError):  # a missing file is listed below with the other unreadable ones
            key = content_key(dataset.data_dir, [str(name) for name in dataset.manifest["image"]], cache_dir, "checked")
            note = Path(cache_dir) / "checked" / f"{dataset.name}-{key}.json"
    bad = noted(note)
    if bad is None:
        if note is None or cache_dir is None or pixels is None:
            bad = unreadable(dataset, progress=True)
        else:
            bad = cache_pixels(dataset, *pixels, cache_dir, progress=True)
        keep_note(note, bad)
    result = _without(dataset, bad, skip_unreadable) if bad else dataset
    log.info("%s: %d images%s", dataset.name, len(result.manifest), passed_over(result.left_out, "; passed over: "))
    return result


def _without(dataset: Dataset, bad: dict[str, str], skip_unreadable: bool) -> Dataset:
    if not skip_unreadable:
        names = ", ".join(list(bad)[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        reason = next(iter(bad.values())).replace(f"{dataset.data_dir}/", "").removeprefix("cannot read image ")
        raise UsageError(f"{dataset.data_dir}: cannot read {len(bad)} image(s): {names} ({reason}); --skip-unreadable goes on without them")
    for reason in bad.values():
        log.warning("left out: %s", reason)
    kept = dataset.manifest[~dataset.manifest["image"].isin(list(bad))].reset_index(drop=True)
    lost = set(class_names(dataset.manifest)) - set(class_names(kept))
    if lost:
        raise UsageError(f"{dataset.data_dir}: no readable image is left of the class {', '.join(sorted(lost))}")
    return replace(dataset, manifest=kept, left_out={**dataset.left_out, UNREADABLE: len(bad)})


def passed_over(left_out: dict[str, int], prefix: str = "", most: int = 6) -> str:
    """ "10 .dcm files, 4 images in helper folders": what was passed over, by reason; "" for nothing."""
    if not left_out:
        return ""
    shown = list(left_out.items())[:most]
    rest = sum(left_out.values()) - sum(number for _, number in shown)
    return prefix + ", ".join(f"{number} {reason}" for reason, number in shown) + (f", {rest} others" if rest else "")
