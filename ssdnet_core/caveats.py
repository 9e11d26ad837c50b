"""What the reader of a result should know: where the image is not what the method assumes, and what was left out."""

from collections.abc import Iterator

from ssdnet_core.exposure import MOST_RANGE_OVER_CHANNEL, MOST_RANGE_OVER_IQR, MUCH_CLIPPED, NEARLY_FLAT
from ssdnet_core.homogeneity import SEVERAL_TEXTURES
from ssdnet_core.preparation import Preparation
from ssdnet_core.sensor_noise import LEAST_NOISE, MUCH_GRAIN

SIDES = ("top", "bottom", "left", "right")


def caveats(preparation: Preparation, *, unlikeness: float) -> tuple[str, ...]:
    """Return what the reader of an image's result should know, each with what to do about it.

    Parameters
    ----------
    preparation
        What is known of the image before the fit, with the warnings of who read its file.
    unlikeness
        How far the image's parts differ, in spreads (:func:`ssdnet_core.homogeneity.unlikeness_of_parts`).
    """
    of_the_surface = _of_the_surface(preparation, unlikeness=unlikeness)
    of_noise, of_the_rest = _of_what_is_noise(preparation), _of_what_was_left_out(preparation)
    return (*preparation.reader_warnings, *of_the_surface, *of_noise, *of_the_rest)


def _of_the_surface(preparation: Preparation, *, unlikeness: float) -> Iterator[str]:
    if preparation.range_over_channel > MOST_RANGE_OVER_CHANNEL:
        yield (
            f"the channels lie far apart: all values spread over {preparation.range_over_channel:.0f} times what those "
            "of any one channel do, and beside that the surface is flat; take off each channel's own lowest value"
        )
        if preparation.constant:
            # It would not be without the offsets.
            return
    if preparation.constant:
        yield "the image is constant, or all but constant: there is no structure to compare with"
        # A further warning, that all of its pixels have the darkest value, would add nothing.
        return
    if unlikeness > SEVERAL_TEXTURES:
        yield (
            f"not one texture: its parts lie {unlikeness:.2f} spreads apart, one texture's at most {SEVERAL_TEXTURES}; "
            "mask what is not the surface"
        )
    if preparation.commonest_share > NEARLY_FLAT:
        yield (
            f"{preparation.commonest_share:.1%} of the pixels have one value: too few differ for a score to mean much; "
            "expose and light the surface so that its structure shows"
        )
    else:
        yield from _of_what_is_clipped(preparation)
    if preparation.range_over_iqr > MOST_RANGE_OVER_IQR:
        yield (
            f"a few values lie far off: all spread over {preparation.range_over_iqr:.0f} times what half of them do, "
            "and beside that the surface is flat; mask what is no measurement"
        )


def _of_what_is_clipped(preparation: Preparation) -> Iterator[str]:
    for share, extreme, remedy in zip(preparation.clipped, ("darkest", "brightest"), ("more", "less"), strict=True):
        if share > MUCH_CLIPPED:
            yield f"{share:.0%} of the pixels have the {extreme} value of a channel: if it is clipped, expose {remedy}"


def _of_what_is_noise(preparation: Preparation) -> Iterator[str]:
    noise = preparation.noise
    if noise.of_sensor > LEAST_NOISE:
        what, if_noise = "white noise", ""
    elif noise.share > MUCH_GRAIN:
        what, if_noise = "white noise, or grain of the surface that looks like it,", "if it is noise, "
    else:
        return
    yield (
        f"{what} is {noise.share:.0%} of what varies, and was weakened: faint defects may be missed; "
        f"{if_noise}give more light, or expose for longer"
    )


def _of_what_was_left_out(preparation: Preparation) -> Iterator[str]:
    if any(preparation.frame):
        sides = ", ".join(f"{width} {side}" for side, width in zip(SIDES, preparation.frame, strict=True) if width)
        yield f"a frame was left out, in working pixels: {sides}"
    if preparation.scattered and not preparation.constant:
        yield (
            "what counts lies too scattered for the scores of local energy and local colour, which were left out: "
            "faint and flat defects are missed; mask whole areas instead"
        )
    if preparation.not_finite:
        yield f"pixels that are no number or infinite were left out: {_share(preparation.not_finite)} of the image"
    if preparation.blank:
        yield f"blank ground beside the surface was left out: {_share(preparation.blank)} of the image"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 1e-3 else "less than 0.1%"
