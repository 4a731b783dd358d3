"""Reads an HdrHistogram interval log with the PyPI package `hdrhistogram` and prints what it found as JSON."""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

merged = HdrHistogram(1, 60_000_000_000, 3)
reader = HistogramLogReader(sys.argv[1], merged)
intervals = []
while (interval := reader.get_next_interval_histogram()) is not None:
    intervals.append({
        "start_s": interval.get_start_time_stamp() / 1000 - reader.get_start_time_sec(),
        "length_s": (interval.get_end_time_stamp() - interval.get_start_time_stamp()) / 1000,
        "count": interval.get_total_count(),
        "max": interval.get_max_value(),
    })
    merged.add(interval)

json.dump({
    "start_unix_s": reader.get_start_time_sec(),
    "intervals": intervals,
    "count": merged.get_total_count(),
    "min": merged.get_min_value(),
    "max": merged.get_max_value(),
    "percentiles": [merged.get_value_at_percentile(p) for p in (50, 90, 99, 99.9, 100)],
    # Each slot in use: its highest value and how many values lie in it.
    "slots": [[item.value_iterated_to, item.count_at_value_iterated_to] for item in merged.get_recorded_iterator()],
}, sys.stdout)
