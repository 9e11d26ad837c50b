"""Metrics as of a measured batch."""

from ssdnet_core.metrics import PixelMetrics
from tasks.category_metrics import CategoryMetrics


def pixels(value):
    return PixelMetrics(value, value, value, value)


def row(category, value, *, good=12, false_alarm_rate=0.25):
    return CategoryMetrics(
        **vars(pixels(value)),
        category=category,
        defective=1234,
        good=good,
        unmeasured=1,
        iou=0.4321,
        border_ignored=pixels(value + 0.001),
        pooled=pixels(value + 0.002),
        pooled_border_ignored=pixels(value + 0.003),
        pooled_error=PixelMetrics(0.0, 0.0, 0.0, 0.0),
        hit_rate=1.0,
        regions=98765,
        region_precision=0.951,
        false_alarm_rate=false_alarm_rate,
        image_auroc=0.9876,
        seconds=1.899,
    )
