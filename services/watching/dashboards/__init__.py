"""The eight dashboards, each with its panels in a file of its own."""

from typing import Final

from services.watching.board import Board
from services.watching.dashboards.attribution import ATTRIBUTION
from services.watching.dashboards.customer import CUSTOMER
from services.watching.dashboards.measurement import MEASUREMENT
from services.watching.dashboards.objectives import OBJECTIVES
from services.watching.dashboards.one_repayment import ONE_REPAYMENT
from services.watching.dashboards.overview import OVERVIEW
from services.watching.dashboards.stages import STAGES
from services.watching.dashboards.waiting import WAITING

BOARDS: Final[tuple[Board, ...]] = (
    *(OVERVIEW, ATTRIBUTION, STAGES, WAITING, OBJECTIVES, CUSTOMER, MEASUREMENT, ONE_REPAYMENT),
)
