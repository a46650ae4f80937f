"""Where did every second between repaid and restored go? An observer: it reads every topic and owns no money."""

from typing import Final

PROBE: Final = "lag-probe"
"""The process that sends synthetic repayments, and its principal in Kafka."""
PICTURE: Final = "lag-monitor-live"
"""The process that counts into windows for the live picture, and its consumer group."""
WINDOW_SECONDS: Final = 10.0
