"""Makes a request for f8 ready to be built: calibrated, with the layers kept out that err too much.

request, rows = prepared(request)
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial

from torch import Tensor

from export.f8.calibration import calibrate
from export.f8.recipe import DEFAULT_RECIPE, Recipe
from export.f8.sensitivity import layers_to_keep
from export.networks import loaded_network
from export.request import ExportRequest
from export.targets import Report, silent
from export.tolerances import tolerance_of


def prepared(
    request: ExportRequest, recipe: Recipe = DEFAULT_RECIPE, report: Report = silent
) -> tuple[ExportRequest, list[list[Tensor]]]:
    """The request with its quantisation, and served inputs to check it on.

    Args:
        request: for f8.

    Returns:
        Inputs as `export.f8.calibration.Calibrated.rows`. Torch's weights are gone by then.

    Raises:
        ModelError: the weights cannot be read, or no layer can be in 8 bits.
    """
    found = calibrate(request, recipe, report)
    gc.collect()  # a backend refers to itself, and the next step loads its weights once more
    tolerances = partial(tolerance_of, request.precision)
    kept = layers_to_keep(loaded_network(request), found, tolerances, report)
    return replace(request, quantisation=replace(found.quantisation, kept=kept)), found.rows
